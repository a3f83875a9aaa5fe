"""MiLeNAS (He et al. 2020) on CIFAR-10: mixed-level DARTS, two strongest in-edges per node.

Eight operations with `none`, four intermediate nodes, two halves of the training images. The rate
of the weights changes after every epoch, as in the code of MiLeNAS. Published: 2.51 +- 0.11 % test
error with 3.87 M parameters; 0.3 days (paper, Table 1).

    python -m stretchnas_jax.search --config=milenas_cifar10 --workdir=runs/milenas
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a search with MiLeNAS."""
  config = config_lib.search_config()
  config.data.split = 'two_way'
  config.space.with_none = True
  config.topology.kind = 'none'
  config.rule.kind = 'mixed'
  config.weights.schedule_by = 'epoch'
  return config
