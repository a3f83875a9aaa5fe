"""DARTS-SC on CIFAR-10: stretchable cells (Eq. 11-13), first order.

Four intermediate nodes, as in the paper's Figure 5; 50 epochs of batch 64.

    python -m stretchnas_jax.search --config=configs/darts_sc_cifar10.py --workdir=runs/darts_sc
"""

from stretchnas_jax import config as config_lib


def get_config():
  return config_lib.search_config()
