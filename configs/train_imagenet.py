"""Trains a cell on ImageNet with PC-DARTS' recipe (Xu et al. 2020).

C 48, 14 layers, 250 epochs, batch 1024, label smoothing 0.1, weight decay 3e-5, auxiliary head
0.4. The learning rate changes after every epoch. It falls from 0.5 on a line, which is flatter in
the last 5 epochs; the first 5 epochs have a fifth, two fifths and so on of it. The argument
`bfloat16` computes in that type, which is faster and not the published recipe. DARTS' own recipe is
`train.batch_size=128`, `weights.learning_rate=0.1`, `weights.schedule=exponential` and
`weights.warmup_epochs=0`. It is meant for several GPUs or a TPU.

`--config.data.path` is a folder with `train/` and `val/` of class folders, or a folder in which
TFDS prepared the data set. Without it, TFDS' default folder is used.

    python -m stretchnas_jax.train --config=train_imagenet --workdir=runs/imagenet \
        --genotype=DARTS_V2 --config.data.path=/data/imagenet
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib

DTYPES = ('float32', 'bfloat16')


def get_config(dtype: str = 'float32') -> ConfigDict:
  """Returns the config of a training on ImageNet that computes in the type `dtype`."""
  if dtype not in DTYPES:
    raise ValueError(f'the type after the colon is {dtype!r}; it must be {", ".join(DTYPES)}')
  config = config_lib.train_config()
  config.data.name = 'imagenet2012'
  config.data.image_size = 224
  config.data.cutout = 0
  config.data.jitter = 1.0
  config.model.channels = 48
  config.model.num_layers = 14
  config.model.stem = 'imagenet'
  config.model.dtype = dtype
  config.train.epochs = 250
  config.train.batch_size = 1024
  config.train.drop_path = 0.0
  config.train.label_smoothing = 0.1
  config.train.steps_per_call = 4  # at most 12 steps of images are held: 1.9 GB
  config.weights.schedule = 'linear_tail'
  config.weights.schedule_by = 'epoch'
  config.weights.learning_rate = 0.5
  config.weights.warmup_epochs = 5
  config.weights.weight_decay = 3e-5
  return config
