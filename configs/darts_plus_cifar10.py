"""DARTS+ (Liang et al. 2019) on CIFAR-10: DARTS that stops early.

The search stops at the first epoch whose normal cell has two skip connections, or where the ranking
of the operations with weights has not changed on any edge for 10 epochs. All else is first-order
DARTS. `sc` takes stretchable cells in place of DARTS' two strongest in-edges.

Published test error: 2.32 % for the best of its trainings; how many there were is not known. The
authors have published no code. Which of their two rules stops a search is not told; here the first
one that holds does. `--config.monitor.skips=3 --config.monitor.min_epochs=10` is the rule of
ConfigurableOptimizer: more than two skips, not before epoch 10. A search costs as much as DARTS' up
to its last epoch.

    python -m stretchnas_jax.search --config=darts_plus_cifar10 --workdir=runs/darts_plus
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search that stops early, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.weights.schedule_by = 'epoch'
  config.monitor.skips = 2
  config.monitor.same_ranking = 10
  if cells == 'darts':
    config.data.split = 'two_way'
    config.space.with_none = True
    config.topology.kind = 'none'
  return config
