"""DARTS- (Chu et al. 2021) on CIFAR-10: a skip connection beside the operations of each edge.

The auxiliary skip takes the part of a skip connection that only helps training, so that the one
among the operations wins on its merits. Its weight falls from 1 to 0 by epoch: 1 - e / 50. It has
no part in the derived cell. First order. `sc` takes stretchable cells.

Published test error: 2.59 +- 0.08 % at 3.5 M parameters, the mean of several searches; 0.4 GPU days
for each.

Deviations from the authors' code: none that is known.

    python -m stretchnas_jax.search --config=darts_minus_cifar10 --workdir=runs/darts_minus
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search with DARTS-, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.model.auxiliary_skip = True
  config.weights.schedule_by = 'epoch'
  if cells == 'darts':
    config.data.split = 'two_way'
    config.space.with_none = True
    config.topology.kind = 'none'
  return config
