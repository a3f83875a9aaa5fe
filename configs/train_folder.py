"""Trains a cell on your own images: one folder for each class.

`--config.data.path` names a folder with `train/`, and `val/`, `test/` or both, of class folders.
Without these two, `--config.data.holdout=0.1` keeps a tenth of the images to measure on.

    python -m stretchnas_jax.train --config=train_folder --workdir=runs/trained \
        --genotype=runs/mine/genotype.json --config.data.path=my_images
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a training on class folders."""
  config = config_lib.train_config()
  config.data.name = 'folder'
  config.data.image_size = 32
  config.data.cutout = 8
  config.model.channels = 16
  config.model.num_layers = 5
  config.train.epochs = 50
  config.train.batch_size = 64
  config.train.drop_path = 0.1
  config.train.steps_per_call = 10
  config.weights.learning_rate = 0.05
  return config
