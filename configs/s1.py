"""DARTS on the space S1 of Zela et al. (2020) and CIFAR-10: two operations on each edge.

An edge has two of six operations, and edges differ: those that a search of DARTS had left. The
argument is the order of the gradients, `first` or `second`; `sc` takes stretchable cells. Every
other method runs on this space with `--config.space.name=s1`.

Published test error: no figure of the paper could be checked.

Deviations from the authors' code, RobustDARTS: those of our DARTS, see docs/differences.md. The
paper has second order, and the weight decay 3e-4 here is the first of those it compares.

    python -m stretchnas_jax.search --config=s1:second --workdir=runs/s1
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib

RULES = {'first': 'first_order', 'second': 'second_order', 'sc': 'first_order'}


def get_config(order: str = 'first') -> ConfigDict:
  """Returns the config of a search on S1 with DARTS, with `sc` over stretchable cells."""
  if order not in RULES:
    raise ValueError(f'the order after the colon is {order!r}; it must be {", ".join(RULES)}')
  config = config_lib.search_config()
  config.space.name = 's1'
  config.rule.kind = RULES[order]
  config.weights.schedule_by = 'epoch'
  if order != 'sc':
    config.data.split = 'two_way'
    config.topology.kind = 'none'
  return config
