"""beta-DARTS (Ye et al. 2022) on CIFAR-10: DARTS, first order, with a decay of the logits.

The penalty is `c` times the mean of `logsumexp(alpha)` over the edges of both cells. It holds back
large weights of the softmax. c grows from 0 to 50 over the search. `sc` takes stretchable cells.

Published test error: no figure of the paper could be checked.

Deviations from the authors' code: as released it runs on NAS-Bench-201 alone, for 100 epochs with
c = epoch / 2. Here c is 50 epoch / epochs, which is the same there. On the space of DARTS its
call lacks an argument; the mean over all 28 edges is our reading.

    python -m stretchnas_jax.search --config=beta_darts_cifar10 --workdir=runs/beta_darts
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search with beta-DARTS, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.penalty.update({'logsumexp': 50.0, 'logsumexp_growth': 'linear_beyond'})
  config.weights.schedule_by = 'epoch'
  if cells == 'darts':
    config.data.split = 'two_way'
    config.space.with_none = True
    config.topology.kind = 'none'
  return config
