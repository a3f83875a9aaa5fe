"""DARTS-SC on CIFAR-10: stretchable cells (Eq. 11-13), first order.

Four intermediate nodes, as in the paper's Figure 5; 50 epochs of batch 64. The optimizers are those
of DARTS, whose learning rate changes after every epoch. The paper does not name them: assumed.

    python -m stretchnas_jax.search --config=darts_sc_cifar10 --workdir=runs/darts_sc
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a search: the default one, with DARTS' schedule."""
  config = config_lib.search_config()
  config.weights.schedule_by = 'epoch'
  return config
