"""Fair DARTS (Chu et al. 2020) on CIFAR-10: gates that do not compete, driven to 0 or 1.

The weight of an operation is a sigmoid of its logit. The loss `-10 mean((w - 0.5)^2)` drives gates
apart. Of the two strongest in-edges of a node those stay whose gate is at least 0.85; a node may
lose all of them. `sc` takes stretchable cells: the codes of beta are decoded, without a threshold.

Published test error: 2.54 +- 0.05 %, 0.4 GPU days: the mean over the cells of seven searches, each
trained once (the authors' README).

Deviations from the authors' code: none that is known. Its loss has two forms; this is the form of
its script, the square. Without a gate above 0.85 on an edge from an input the strongest edge stays,
so that every search ends with a cell.

    python -m stretchnas_jax.search --config=fair_darts_cifar10 --workdir=runs/fair_darts
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search with Fair DARTS, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.relaxation.update({'kind': 'sigmoid', 'init_scale': 0.0})
  config.penalty.zero_one = 10.0
  config.search.batch_size = 128
  config.weights.update({'learning_rate': 0.005, 'schedule_by': 'epoch'})
  config.alpha.update({'learning_rate': 3e-3, 'b1': 0.9})
  if cells == 'darts':
    config.data.split = 'two_way'
    config.topology.kind, config.decoding.kind = 'none', 'threshold'
  else:
    config.beta.update(config.alpha.to_dict())
  return config
