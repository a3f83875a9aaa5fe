"""MiLeNAS-SC searched on ImageNet itself: stretchable cells, mixed level (Eq. 18).

3 % of the training images in three equal parts, every class alike; four intermediate nodes, 8
layers, C 16, 50 epochs of batch 64, as on CIFAR-10. A stem of three convolutions divides the side
of the images by 8; they are cropped, mirrored and changed in colour as in DARTS' training on
ImageNet. Published: 23.8 % top-1 and 7.2 % top-5 test error with 5.6 M parameters; 6.2 days on a
GTX 1080 Ti (paper, Table 2). It is meant for a GPU or TPU.

`--config.data.path` is what TFDS prepared (its default folder if not given), or a folder with
`train/` and `val/` of class folders.

    python -m stretchnas_jax.search --config=configs/milenas_sc_imagenet.py \
        --workdir=runs/sc_imagenet --config.data.path=/data/imagenet
"""

from stretchnas_jax import config as config_lib


def get_config():
  config = config_lib.search_config()
  config.data.name = 'imagenet2012'
  config.data.image_size = 224
  config.data.fraction = 0.03
  config.data.jitter = 1.0
  config.model.stem = 'imagenet'
  config.rule.kind = 'mixed'
  config.search.steps_per_call = 8  # at most 24 steps of 3 x 64 images are held: 700 MB
  return config
