"""Stretchable cells on your own images: one folder for each class.

`--config.data.path` names the folder, perhaps with `train/` and `val/` inside, or with a table
`labels.csv`. Images of any size, grey or in colour, are resized once to `data.image_size` and
cached. It is one number of pixels, or height and width: `--config.data.image_size=32,48`.

    python -m stretchnas_jax.search --config=folder --workdir=runs/mine \
        --config.data.path=my_images --config.search.epochs=50
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a search on class folders."""
  config = config_lib.search_config()
  config.data.name = 'folder'
  config.data.image_size = 32
  config.space.num_intermediate = 6
  config.model.channels = 8
  config.model.num_layers = 5
  config.rule.kind = 'mixed'
  config.search.epochs = 25
  config.search.steps_per_call = 10
  return config
