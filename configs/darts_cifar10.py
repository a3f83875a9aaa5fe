"""The baseline: DARTS (Liu et al. 2018) on CIFAR-10, first order.

Eight operations with `none`, four intermediate nodes, the top-2 rule instead of topology variables,
two halves of the training images. Published: 3.00 +- 0.14 % test error with 3.3 M parameters for
the cell of a first-order search; 0.4 days on a GTX 1080 Ti (paper, Table 1).

    python -m stretchnas_jax.search --config=configs/darts_cifar10.py:first --workdir=runs/darts
"""

from stretchnas_jax import config as config_lib

ORDERS = {'first': 'first_order'}


def get_config(order='first'):
  if order not in ORDERS:
    raise ValueError(f'the order after the colon is {order!r}; it must be {", ".join(ORDERS)}')
  config = config_lib.search_config()
  config.data.split = 'two_way'
  config.space.with_none = True
  config.topology.kind = 'none'
  config.rule.kind = ORDERS[order]
  return config
