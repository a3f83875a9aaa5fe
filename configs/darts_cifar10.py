"""The baseline: DARTS (Liu et al. 2018) on CIFAR-10.

Eight operations with `none`, four intermediate nodes, two halves of the training images. Without
topology variables, each node keeps its two strongest in-edges. The argument is the order of the
gradients, `first` or `second`. With `first_output` and `second_output` each node keeps its two
strongest out-edges instead. The learning rate of the weights changes after every epoch, as in the
code of DARTS.

Published test errors: 3.00 +- 0.14 % for first order and 2.76 +- 0.09 % for second order, both with
3.3 M parameters; 0.4 and 4 days on a GTX 1080 Ti (paper, Table 1); 2.82 % for second order on
output edges (Table 5).

    python -m stretchnas_jax.search --config=darts_cifar10:second --workdir=runs/darts
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib

# Argument -> the rule, and the end of the edges at which a node keeps the strongest.
ORDERS = {
  'first': ('first_order', 'target'),
  'second': ('second_order', 'target'),
  'first_output': ('first_order', 'source'),
  'second_output': ('second_order', 'source'),
}


def get_config(order: str = 'first') -> ConfigDict:
  """Returns the config of a search with first-order or second-order DARTS."""
  if order not in ORDERS:
    raise ValueError(f'the order after the colon is {order!r}; it must be {", ".join(ORDERS)}')
  config = config_lib.search_config()
  config.data.split = 'two_way'
  config.space.with_none = True
  config.topology.kind = 'none'
  config.weights.schedule_by = 'epoch'
  config.rule.kind, config.topology.by = ORDERS[order]
  return config
