"""DARTS-SC on CIFAR-10: stretchable cells (Eq. 11-13), first order.

Four intermediate nodes, as in the paper's Figure 5; 50 epochs of batch 64.

    python -m stretchnas_jax.search --config=darts_sc_cifar10 --workdir=runs/darts_sc
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a search, which is the default one."""
  return config_lib.search_config()
