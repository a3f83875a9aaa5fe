"""Trains a cell on CIFAR-10 with DARTS' recipe (Liu et al. 2018).

C 36, 20 layers, 600 epochs, batch 96, cutout 16, drop path 0.2, auxiliary head 0.4. The learning
rate changes after every epoch, as in the code of DARTS. The paper does not print its recipe; that
it is DARTS' is assumed. Published test errors: 2.76 +- 0.09 % for DARTS_V2, 2.58 +- 0.11 % for a
stretchable cell of MiLeNAS-SC at 3.5 M parameters. The paper trains its cells with as many layers
as the search had; `describe CELL --layers=8 --target-params=3.5e6` finds C. It is meant for a GPU
or TPU.

    python -m stretchnas_jax.train --config=train_cifar10 --workdir=runs/v2 \
        --genotype=DARTS_V2 --seeds=0,1,2
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a training: the default one, with DARTS' schedule."""
  config = config_lib.train_config()
  config.weights.schedule_by = 'epoch'
  return config
