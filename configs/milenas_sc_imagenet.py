"""MiLeNAS-SC searched on ImageNet itself: stretchable cells, mixed level (Eq. 18).

The search uses 3 % of the training images, the same part of every class, in three equal parts. It
has four intermediate nodes, 8 layers, C 16, and 50 epochs of batch 64, as on CIFAR-10. A stem of
three convolutions divides the side of the images by 8. Images are cropped and mirrored, as in
PC-DARTS' search on ImageNet. With the argument `jitter` their colours change too, as in DARTS'
training on ImageNet. The paper says neither, and it does not name its optimizers: assumed.
Published: 23.8 % top-1 and 7.2 % top-5 test error with 5.6 M parameters; 6.2 days on a GTX 1080 Ti
(paper, Table 2). It is meant for a GPU or TPU.

`--config.data.path` is a folder with `train/` and `val/` of class folders, or a folder in which
TFDS prepared the data set. Without it, TFDS' default folder is used.

    python -m stretchnas_jax.search --config=milenas_sc_imagenet \
        --workdir=runs/sc_imagenet --config.data.path=/data/imagenet
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib

COLOURS = {'plain': 0.0, 'jitter': 1.0}
"""Argument -> the strength of colour changes."""


def get_config(colours: str = 'plain') -> ConfigDict:
  """Returns the config of a search on a part of ImageNet, without or with colour changes."""
  if colours not in COLOURS:
    raise ValueError(f'the word after the colon is {colours!r}; it must be {", ".join(COLOURS)}')
  config = config_lib.search_config()
  config.data.name = 'imagenet2012'
  config.data.image_size = 224
  config.data.fraction = 0.03
  config.data.jitter = COLOURS[colours]
  config.model.stem = 'imagenet'
  config.rule.kind = 'mixed'
  config.weights.schedule_by = 'epoch'
  config.search.steps_per_call = 8  # at most 24 steps of 3 x 64 images are held: 700 MB
  return config
