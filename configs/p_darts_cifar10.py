"""P-DARTS (Chen et al. 2019) on CIFAR-10: three phases, deeper and with fewer operations.

The phases have 5, 11 and 17 cells, and 8, 5 and 3 operations on each edge: the strongest stay. All
but that choice is new in each. Alpha rests for 10 of 25 epochs. Skip connections have dropout,
which falls from 0.1, 0.4 and 0.7. The cell is DARTS' with at most two skips in its normal cell.
`sc` takes stretchable cells instead, without `none`; beta goes on from phase to phase.

Published test error: 2.50 % at 3.4 M parameters, one cell, without a deviation; 0.3 days. The
authors recommend two skips; their code needs 16 GB for a batch of 96. No deviation is known.

    python -m stretchnas_jax.search --config=p_darts_cifar10 --workdir=runs/p_darts
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib

DEPTHS, OPERATIONS, DROPOUTS = (5, 11, 17), (8, 5, 3), (0.1, 0.4, 0.7)


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search in three phases, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.search.update({'epochs': 75, 'batch_size': 96, 'warmup_epochs': 10})
  config.weights.update({'final_learning_rate': 0.0, 'schedule_by': 'epoch'})
  config.alpha.update({'learning_rate': 6e-4, 'clip_norm': 5.0})
  if cells == 'darts':
    config.data.split = 'two_way'
    config.space.with_none = True
    config.topology.kind = 'none'
    config.decoding.kind = 'capped'
  else:
    config.beta.update(config.alpha.to_dict())
  phases = [{'epochs': 25, 'model.num_layers': d, 'model.skip_dropout': p}
            for d, p in zip(DEPTHS, DROPOUTS)]  # fmt: skip
  for phase, keep in zip(phases[1:], OPERATIONS[1:]):
    phase.update({'keep': keep, 'new': ('weights', 'schedule', 'alpha')})
  config.search.phases = tuple(phases)
  return config
