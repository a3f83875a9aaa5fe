"""MiLeNAS-SC on CIFAR-10, the paper's main result: stretchable cells, mixed level (Eq. 18).

Six intermediate nodes. The argument is the number of layers of search and evaluation: 8, 12 or 16.
Published test errors: 2.58 +- 0.11, 2.36 +- 0.07 and 2.51 +- 0.09 % at 3.5 M parameters; 1.1, 1.5
and 2.2 days on a GTX 1080 Ti (paper, Table 1). The optimizers are those of MiLeNAS, whose learning
rate changes after every epoch. The paper names neither them nor beta's optimizer: assumed.

    python -m stretchnas_jax.search --config=milenas_sc_cifar10:8 --workdir=runs/sc_l8
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib

LAYERS = ('8', '12', '16')


def get_config(layers: str = '8') -> ConfigDict:
  """Returns the config of a search at a depth of 8, 12 or 16 layers."""
  if layers not in LAYERS:
    raise ValueError(f'the layers after the colon are {layers!r}; they must be {", ".join(LAYERS)}')
  config = config_lib.search_config()
  config.space.num_intermediate = 6
  config.model.num_layers = int(layers)
  config.rule.kind = 'mixed'
  config.weights.schedule_by = 'epoch'
  return config
