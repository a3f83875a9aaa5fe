"""All fields of a config: default, meaning and allowed values, each in one place.

Every config file starts from `search_config()` or `train_config()`. Names that become objects
(topologies, rules, data sets, ...) get their allowed values from whoever makes the objects; see
`runs.build.CHOICES`.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict

from stretchnas_jax.config.decision_fields import DECISIONS
from stretchnas_jax.config.field import Field, above, at_least, below, interval, seed, size, whole
from stretchnas_jax.config.method_fields import METHOD, SPACE

_RATE, _PART = above(0), at_least(0, 1)


def _group(name: str, fields: Mapping[str, Field]) -> dict[str, Field]:
  """Returns the fields of a group by their full names.

  Args:
    name: of the group.
    fields: by their names in the group.
  """
  return {f'{name}.{field}': value for field, value in fields.items()}


def _data(own: Mapping[str, Field], cutout: int) -> dict[str, Field]:
  """Returns the group `data`: where images come from, and how they are changed.

  Args:
    own: fields that only a search or only a training has.
    cutout: the default of that field.
  """
  return _group(
    'data',
    {
      'name': Field('cifar10', 'the data set'),
      'path': Field(None, 'its files; None: the folder of TFDS; digits need none', kind=str),
      'image_size': Field(
        None,
        'pixels a side, or height,width; None: as in the data set, of a stream 224',
        size(8),
        object,
      ),
      'range': Field(
        None,
        'low,high: black and white in images of more than 8 bits; None: 0,65535 for 16 bits',
        interval(),
        object,
      ),
      **own,
      'crop_padding': Field(
        4, 'pixels around images before a random crop; not for streams', whole(0)
      ),
      'flip': Field(True, 'mirror half of the images'),
      'cutout': Field(cutout, 'pixels a side of a square that is blanked; 0: none', whole(0)),
      'on_bad_image': Field('error', 'if an image cannot be read: end, or leave it out'),
      'max_pixels': Field(
        None,
        "pixels of the largest image, 12 bytes of memory each; None: Pillow's limit, 89478485",
        whole(1),
        int,
      ),
      'stream': Field(False, 'read images as they are needed, from folders larger than memory'),
      'crop_scale': Field(
        0.08, 'the smallest part of the area that a crop of a stream keeps', above(0, 1)
      ),
      'jitter': Field(
        0.0,
        "strength of colour changes of a stream; 1: DARTS' recipe for ImageNet",
        at_least(0, 2.5),
      ),
      'compare_times': Field(
        True, 'refuse to resume on a large stream whose files have other times'
      ),
      'workers': Field(0, 'threads that decode a stream; 0: one per core', whole(0)),
    },
  )


_SEED = {'seed': Field(0, 'of initial values, the order of images and all other draws', seed())}
_FRACTION = Field(1.0, 'part of the training images that is used', above(0, 1))
_DTYPE = Field('float32', 'number format of the computation; parameters stay float32')
_PRECISION = Field(
  'default',
  'of matrix products and convolutions in float32: default is what JAX takes for the device '
  '(TF32 on NVIDIA, one pass of bfloat16 on a TPU), highest is float32 everywhere',
)
_BATCH_NORM = Field(
  'corrected',
  "running averages: corrected has PyTorch's variances and forgets its start; plain: as in 0.1",
  absent='plain',
)
_STEM = Field('cifar', 'first layers of the network; imagenet is for large images')
_SCHEDULE_BY = Field('step', 'whether the learning rate changes after every step or every epoch')
_BATCH = 'images of a batch, over all devices'
_CALL = Field(50, 'steps that run before the host looks at the result', whole(1))

_SGD = {
  'momentum': Field(0.9, 'of SGD', _PART),
  'nesterov': Field(False, "whether the momentum is Nesterov's"),
  'weight_decay': Field(3e-4, 'of the weights', at_least(0)),
  'clip_norm': Field(5.0, 'largest norm of all gradients of the weights together', _RATE),
}

_PROGRAM = {
  'parallel.backend': Field('pmap', 'how a step runs on all devices, or single: on one'),
  'parallel.seeds': Field(
    'beside', 'runs of --seeds: beside each other, one on each device; in_turn: each on all devices'
  ),
  'checkpoint.every_steps': Field(
    0, 'steps between checkpoints; 0: one after every epoch', whole(0)
  ),
  'checkpoint.keep': Field(3, 'newest checkpoints that stay', whole(1)),
  'checkpoint.keep_every_epochs': Field(0, 'that of every so many epochs stays; 0: none', whole(0)),
  'log.tensorboard': Field(False, 'write the metrics for TensorBoard too'),
}


def _adam(of: str) -> dict[str, Field]:
  """Returns the settings of Adam for alpha or beta."""
  return {
    'learning_rate': Field(3e-4, f'of Adam, for {of}', _RATE),
    'b1': Field(0.5, 'decay of the mean gradient', _PART),
    'b2': Field(0.999, 'decay of the mean squared gradient', _PART),
    'weight_decay': Field(1e-3, f'of {of}', at_least(0)),
    'clip_norm': Field(None, f'largest norm of the gradients of {of}; None: any', _RATE, float),
  }


SEARCH = {
  **_SEED,
  **_data(
    {
      'split': Field(
        'three_way',
        'parts of the training images; two_way: alpha and beta share one; one_way: all share all',
      ),
      'fraction': _FRACTION,
    },
    cutout=0,
  ),
  **SPACE,
  'model.channels': Field(16, 'C of the first cells', whole(1)),
  'model.num_layers': Field(8, 'cells', whole(1)),
  'model.stem': _STEM,
  'model.dtype': _DTYPE,
  'model.precision': _PRECISION,
  'model.batch_norm': _BATCH_NORM,
  'model.form': Field('auto', 'how the supernet computes; auto: planes on a CPU, else merged'),
  'model.remat': Field(False, 'less memory, slower steps'),
  **METHOD,
  'search.epochs': Field(50, 'passes over the training part', whole(1)),
  **DECISIONS,
  'search.batch_size': Field(64, _BATCH, whole(1)),
  'search.steps_per_call': _CALL,
  'search.warmup_epochs': Field(0, 'epochs at the start in which alpha and beta rest', whole(0)),
  'search.arch_every': Field(1, 'alpha and beta move in every so many steps', whole(1)),
  'weights.learning_rate': Field(0.025, 'of the weights at the start', _RATE),
  'weights.final_learning_rate': Field(0.001, 'at the end of the cosine', at_least(0)),
  'weights.schedule_by': _SCHEDULE_BY,
  **_group('weights', _SGD),
  **_group('alpha', _adam('alpha')),
  **_group('beta', _adam('beta')),
  **_PROGRAM,
  'log.cell_every': Field(5, 'epochs from test to test of the decoded cell; 0: none', whole(0)),
}
"""The fields of a search, with the hyper-parameters of DARTS (Liu et al. 2018)."""

TRAIN = {
  **_SEED,
  **_data(
    {
      'fraction': _FRACTION,
      'holdout': Field(0.0, 'part of these that is kept apart for validation', below(1)),
    },
    cutout=16,
  ),
  'model.channels': Field(36, 'C of the first cells', whole(1)),
  'model.num_layers': Field(20, 'cells', whole(1)),
  'model.stem': _STEM,
  'model.auxiliary': Field(True, 'a second classifier, used in training only'),
  'model.dtype': _DTYPE,
  'model.precision': _PRECISION,
  'model.batch_norm': _BATCH_NORM,
  'train.epochs': Field(600, 'passes over the training images', whole(1)),
  'train.batch_size': Field(96, _BATCH, whole(1)),
  'train.auxiliary_weight': Field(0.4, 'weight of the loss of the second classifier', at_least(0)),
  'train.drop_path': Field(0.2, 'probability of dropping a path, at the end of a ramp', below(1)),
  'train.label_smoothing': Field(0.0, 'part of each label that all classes share', below(1)),
  'train.steps_per_call': _CALL,
  'train.test_every_epoch': Field(False, 'False: the test images are used once, at the end'),
  'weights.schedule': Field(
    'cosine', "how the learning rate falls; linear_tail: PC-DARTS' line for ImageNet"
  ),
  'weights.schedule_by': _SCHEDULE_BY,
  'weights.learning_rate': Field(0.025, 'of the weights at the start', _RATE),
  'weights.final_learning_rate': Field(0.0, 'at the end of cosine and linear', at_least(0)),
  'weights.decay': Field(0.97, 'factor after every epoch, of exponential', above(0, 1)),
  'weights.warmup_epochs': Field(0, 'epochs in which the learning rate rises', whole(0)),
  **_group('weights', _SGD),
  **_PROGRAM,
}
"""The fields of a training, with DARTS' recipe for CIFAR-10 (Liu et al. 2018)."""

FIELDS = {'search': SEARCH, 'train': TRAIN}
"""The fields of both kinds of config."""


class Row(NamedTuple):
  """A field in words, as help and documentation show it."""

  field: str
  default: str
  meaning: str
  allowed: str


def rows(kind: str, choices: Mapping[str, Collection[str]]) -> list[Row]:
  """Returns all fields of a kind of config in words, in the order of the config.

  Args:
    kind: 'search' or 'train'.
    choices: the allowed names of fields that hold a name, `runs.build.CHOICES`.
  """
  found = []
  for name, field in FIELDS[kind].items():
    allowed = field.check.allowed if field.check else ''
    if name in choices:
      allowed = ', '.join(choices[name])
    elif isinstance(field.default, bool):
      allowed = 'True, False'
    found.append(Row(name, str(field.default), field.meaning, allowed))
  return found


def search_config() -> ConfigDict:
  """Returns all fields of a search, with the hyper-parameters of DARTS (Liu et al. 2018).

  Example:
    >>> search_config().search.epochs
    50
  """
  return default_config('search')


def train_config() -> ConfigDict:
  """Returns all fields of a training, with DARTS' recipe for CIFAR-10 (Liu et al. 2018).

  Example:
    >>> train_config().train.epochs
    600
  """
  return default_config('train')


def default_config(kind: str) -> ConfigDict:
  """Returns all fields of a kind of config, 'search' or 'train', at their defaults."""
  config = ConfigDict()
  for name, field in FIELDS[kind].items():
    group, _, last = name.rpartition('.')
    if group and group not in config:
      config[group] = ConfigDict()
    value: Any = field.default if field.kind is None else config_dict.placeholder(field.kind)
    (config[group] if group else config)[last] = value
  return config


def when_absent(config: ConfigDict) -> ConfigDict:
  """Returns a default config with the values that its fields have in runs made before them.

  Args:
    config: all fields of a search or of a training at their defaults; it stays as it is.
  """
  config = copy.deepcopy(config)  # keeps the types of fields that are None
  config.update_from_flattened_dict(former_values(config, ()))
  return config


def former_values(config: ConfigDict, stored: Collection[str]) -> dict[str, Any]:
  """Returns the fields that a run has not stored and whose default was another when it was made.

  Args:
    config: of a search or of a training; a field that is not at its default is left out.
    stored: the names of the stored fields.

  Returns:
    Their values then, by full names.
  """
  kind = 'search' if 'search' in config else 'train'
  found = {}
  for name, field in FIELDS[kind].items():
    group, _, last = name.rpartition('.')
    if field.absent is not None and name not in stored and config[group][last] == field.default:
      found[name] = field.absent
  return found
