"""DrNAS (Chen et al. 2021) on CIFAR-10: weights drawn from Dirichlet distributions, two phases.

The weights of the operations of an edge are drawn at each pass, and alpha moves along the draws.
The search network is as deep and wide as the final one: 20 layers, C 36. Operations see a sixth of
the channels, and in the second phase a quarter: new channels copy old ones. There 4 of 7 operations
of an edge stay, the strongest. Weights, momentum and the curve of the learning rate go on. Alpha
rests in the first 10 of the 25 epochs of each phase. `sc` takes stretchable cells.

Published test error: 2.46 +- 0.03 % at 4.1 M parameters; how many trainings there were is not
known. Users report 2.89 +- 0.09 % for a search of their own (DrNAS, thread 10). Deviations from the
authors' code: operations that fell are gone, while theirs have the weight 0. An evaluation uses the
mean of the distributions; the code draws there too.

    python -m stretchnas_jax.search --config=drnas_cifar10 --workdir=runs/drnas
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search in two phases, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.search.update({'epochs': 50, 'warmup_epochs': 10})
  config.model.update({'channels': 36, 'num_layers': 20, 'partial_channels': 6})
  config.weights.update({'learning_rate': 0.1, 'final_learning_rate': 0.0, 'schedule_by': 'epoch'})
  config.alpha.learning_rate = 6e-4
  config.relaxation.kind = 'dirichlet'
  if cells == 'darts':
    config.data.split = 'two_way'
    config.topology.kind = 'none'
  else:
    config.beta.update(config.alpha.to_dict())
  config.search.phases = (
    {'epochs': 25},
    {'epochs': 25, 'model.partial_channels': 4, 'keep': 4},
  )
  return config
