"""DARTS w/o SC on CIFAR-10: pairs of out-edges (Eq. 7-10), first order.

Four intermediate nodes, 8 edges as in DARTS, no `none`. Published: 2.72 +- 0.12 % test error at the
depth of the search, 8 layers; 0.6 days on a GTX 1080 Ti (paper, Table 1). The optimizers are those
of DARTS, whose learning rate changes after every epoch. The paper does not name them: assumed.

    python -m stretchnas_jax.search --config=darts_wo_sc_cifar10 --workdir=runs/wo_sc
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a search over pairs of out-edges."""
  config = config_lib.search_config()
  config.topology.kind = 'output_pairs'
  config.weights.schedule_by = 'epoch'
  return config
