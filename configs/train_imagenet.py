"""Trains a cell on ImageNet with PC-DARTS' large-batch recipe (Xu et al. 2020).

C 48, 14 layers, 250 epochs, batch 1024, label smoothing 0.1, weight decay 3e-5, auxiliary head 0.4.
The learning rate is 0.5 after 5 epochs of warm-up, then falls linearly to 0. DARTS' own recipe is
`train.batch_size=128`, `weights.learning_rate=0.1`, `weights.schedule=exponential` and
`weights.warmup_epochs=0`. It is meant for several GPUs or a TPU.

`--config.data.path` is a folder with `train/` and `val/` of class folders, or a folder in which
TFDS prepared the data set. Without it, TFDS' default folder is used.

    python -m stretchnas_jax.train --config=train_imagenet --workdir=runs/imagenet \
        --genotype=DARTS_V2 --config.data.path=/data/imagenet
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a training on ImageNet."""
  config = config_lib.train_config()
  config.data.name = 'imagenet2012'
  config.data.image_size = 224
  config.data.cutout = 0
  config.data.jitter = 1.0
  config.model.channels = 48
  config.model.num_layers = 14
  config.model.stem = 'imagenet'
  config.model.dtype = 'bfloat16'
  config.train.epochs = 250
  config.train.batch_size = 1024
  config.train.drop_path = 0.0
  config.train.label_smoothing = 0.1
  config.train.steps_per_call = 4  # at most 12 steps of images are held: 1.9 GB
  config.weights.schedule = 'linear'
  config.weights.learning_rate = 0.5
  config.weights.warmup_epochs = 5
  config.weights.weight_decay = 3e-5
  return config
