"""The baseline: DARTS (Liu et al. 2018) on CIFAR-10.

Eight operations with `none`, four intermediate nodes, the top-2 rule instead of topology variables,
two halves of the training images. The argument is `first` or `second`, the order; `first_output`
and `second_output` keep the two strongest out-edges of each node instead of in-edges.

Published test errors: 3.00 +- 0.14 % for first order and 2.76 +- 0.09 % for second order, both with
3.3 M parameters; 0.4 and 4 days on a GTX 1080 Ti (paper, Table 1); 2.82 % for second order on
output edges (Table 5).

    python -m stretchnas_jax.search --config=configs/darts_cifar10.py:second --workdir=runs/darts
"""

from stretchnas_jax import config as config_lib

# Argument -> rule, whose strongest edges stay.
ORDERS = {
  'first': ('first_order', 'target'),
  'second': ('second_order', 'target'),
  'first_output': ('first_order', 'source'),
  'second_output': ('second_order', 'source'),
}


def get_config(order='first'):
  if order not in ORDERS:
    raise ValueError(f'the order after the colon is {order!r}; it must be {", ".join(ORDERS)}')
  config = config_lib.search_config()
  config.data.split = 'two_way'
  config.space.with_none = True
  config.topology.kind = 'none'
  config.rule.kind, config.topology.by = ORDERS[order]
  return config
