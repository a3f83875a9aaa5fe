"""Stretchable cells on scikit-learn's handwritten digits: the whole method in a few minutes.

Mixed-level search (Eq. 18) over all subsets of out-edges (Eq. 11-13) with the penalty r(beta). The
1,437 training images of 8 x 8 pixels are divided into three parts. A validation accuracy of 0.96,
with most choices decided, takes about four minutes on two CPU cores, compilation included.

    python -m stretchnas_jax.search --config=digits --workdir=runs/digits
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config() -> ConfigDict:
  """Returns the config of a search on handwritten digits."""
  config = config_lib.search_config()
  config.data.name = 'digits'
  config.data.image_size = 8
  config.data.crop_padding = 1
  config.data.flip = False  # a mirrored digit is another sign
  config.space.num_intermediate = 4
  config.model.channels = 8
  config.model.num_layers = 3
  config.rule.kind = 'mixed'
  config.search.epochs = 30
  config.search.batch_size = 64
  # There are 210 steps: alpha and beta must move faster than over 50 epochs of CIFAR-10.
  config.alpha.learning_rate = 0.1
  config.beta.learning_rate = 0.3
  # All images are learned soon, and then say little about operations. With a softmax this penalty
  # sharpens what they have said.
  config.penalty.zero_one = 20.0
  return config
