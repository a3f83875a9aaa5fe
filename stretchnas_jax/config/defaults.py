"""Default values of all config fields; every config file starts from one of the two functions."""

from typing import Any

from ml_collections import ConfigDict, config_dict


def search_config() -> ConfigDict:
  """Returns all fields of a search, with the hyper-parameters of DARTS (Liu et al. 2018)."""
  config = ConfigDict()
  config.seed = 0
  own = {
    'split': 'three_way',  # or two_way: alpha and beta share one validation half
    'fraction': 1.0,  # part of the training images that is used
  }
  config.data = _data(own, cutout=0)
  config.space = ConfigDict({'num_intermediate': 4, 'with_none': False})
  config.model = ConfigDict(
    {
      'channels': 16,
      'num_layers': 8,
      'stem': 'cifar',  # or imagenet, for large images
      'dtype': 'float32',  # of the computation; parameters stay float32
      'form': 'auto',  # or merged, planes
      'remat': False,  # less memory, slower steps
    }
  )
  config.topology = _topology()
  config.relaxation = ConfigDict({'kind': 'softmax', 'temperature': 1.0})
  config.rule = ConfigDict({'kind': 'first_order', 'val_weight': 1.0})  # lambda' of Eq. 18
  config.search = ConfigDict(
    {
      'epochs': 50,
      'batch_size': 64,  # over all devices
      'steps_per_call': 50,  # steps that run before the host looks at the result
      'unroll': False,  # faster steps, longer compilation
    }
  )
  config.weights = ConfigDict(
    {
      'learning_rate': 0.025,
      'final_learning_rate': 0.001,  # of the cosine
      'momentum': 0.9,
      'weight_decay': 3e-4,
      'clip_norm': 5.0,
    }
  )
  config.alpha, config.beta = _adam(), _adam()
  _add_program_fields(config)
  return config


def train_config() -> ConfigDict:
  """Returns all fields of a training, with DARTS' recipe for CIFAR-10 (Liu et al. 2018)."""
  config = ConfigDict()
  config.seed = 0
  own = {
    'fraction': 1.0,  # part of the training images that is used
    'holdout': 0.0,  # part of these that is kept apart for validation
  }
  config.data = _data(own, cutout=16)
  config.model = ConfigDict(
    {
      'channels': 36,
      'num_layers': 20,
      'stem': 'cifar',  # or imagenet, for large images
      'auxiliary': True,  # a second classifier, used in training only
      'dtype': 'float32',  # of the computation; parameters stay float32
    }
  )
  config.train = ConfigDict(
    {
      'epochs': 600,
      'batch_size': 96,  # over all devices
      'auxiliary_weight': 0.4,
      'drop_path': 0.2,  # probability at the end of a linear ramp
      'label_smoothing': 0.0,
      'steps_per_call': 50,  # steps that run before the host looks at the result
      'test_every_epoch': False,  # False: the test images are used once, at the end
    }
  )
  config.weights = ConfigDict(
    {
      'schedule': 'cosine',  # or linear, exponential
      'learning_rate': 0.025,
      'final_learning_rate': 0.0,  # of cosine and linear
      'decay': 0.97,  # of exponential, after every epoch
      'warmup_epochs': 0,
      'momentum': 0.9,
      'weight_decay': 3e-4,
      'clip_norm': 5.0,
    }
  )
  _add_program_fields(config)
  return config


def _data(own: dict[str, Any], cutout: int) -> ConfigDict:
  """Returns the group `data`: where images come from, and how they are changed.

  Args:
    own: fields that only a search or only a training has.
    cutout: side of the square that is blanked, in pixels; 0 for none.
  """
  return ConfigDict(
    {
      'name': 'cifar10',
      'path': config_dict.placeholder(str),  # None: the default folder of TFDS
      'image_size': config_dict.placeholder(int),  # None: as in the data set; of a stream 224
      **own,
      'crop_padding': 4,  # in memory; a stream has crop_scale
      'flip': True,
      'cutout': cutout,
      'on_bad_image': 'error',  # or skip
      # The rest is for streams: the data set imagenet2012, and folders with stream=True.
      'stream': False,  # True: read images as they are needed, from a folder larger than memory
      'crop_scale': 0.08,  # smallest part of an image's area that is cropped
      'jitter': 0.0,  # strength of colour changes; 1: DARTS' recipe for ImageNet
      'workers': 0,  # threads that decode; 0: one per core
    }
  )


def _topology() -> ConfigDict:
  """Returns the group `topology`: which edges a cell may keep."""
  return ConfigDict(
    {
      'kind': 'output_subsets',
      'k': 2,  # edges per node; used by k_subsets and none
      # Used by k_subsets and none: target or source. None: target for none, source for k_subsets.
      'by': config_dict.placeholder(str),
      'include_empty': True,  # used by output_subsets
      'penalty_weight': 10.0,  # lambda of Eq. 15
    }
  )


def _adam() -> ConfigDict:
  """Returns the settings of Adam for alpha or beta."""
  return ConfigDict({'learning_rate': 3e-4, 'b1': 0.5, 'b2': 0.999, 'weight_decay': 1e-3})


def _add_program_fields(config: ConfigDict) -> None:
  """Adds the groups that say how a run is carried out and kept."""
  config.parallel = ConfigDict({'backend': 'pmap'})  # or shard_map, single
  config.checkpoint = ConfigDict({'every_steps': 0, 'keep': 3})  # 0: after every epoch
  config.log = ConfigDict({'tensorboard': False})
