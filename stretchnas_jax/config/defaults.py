"""Default configurations and their validation; every config file starts from one of these."""

import math
import numbers

from ml_collections import ConfigDict, config_dict

# Of images that are read as they are needed: the data set imagenet2012, or a folder if it is told.
STREAM = {
  'stream': False,  # a folder too large for memory
  'crop_scale': 0.08,  # smallest part of an image's area that is cropped
  'jitter': 0.0,  # how far colours change; 1: as in DARTS' recipe for ImageNet
  'workers': 0,  # threads that decode; 0: one per core
}


def search_config():
  """What a search can be told, with DARTS' hyper-parameters (Liu et al. 2018) as defaults."""
  config = ConfigDict()
  config.seed = 0
  config.data = ConfigDict(
    {
      'name': 'cifar10',
      'path': config_dict.placeholder(str),  # where the files are, if not where TFDS keeps them
      'image_size': config_dict.placeholder(int),  # None: as the data set has it; streamed, 224
      'split': 'three_way',  # or two_way: alpha and beta share one validation half
      'fraction': 1.0,  # part of the training images used
      'crop_padding': 4,  # in memory; a stream has crop_scale
      'flip': True,
      'cutout': 0,  # side of the square, in pixels; 0: none
      'on_bad_image': 'error',  # or skip
      **STREAM,
    }
  )
  config.space = ConfigDict({'num_intermediate': 4, 'with_none': False})
  config.model = ConfigDict(
    {
      'channels': 16,
      'num_layers': 8,
      'stem': 'cifar',  # or imagenet, for large images
      'dtype': 'float32',  # of the computation; parameters stay float32
      'form': 'auto',  # auto merged planes
      'remat': False,  # less memory, slower steps
    }
  )
  config.topology = ConfigDict(
    {
      'kind': 'output_subsets',
      'k': 2,  # of k_subsets, and of none: the strongest edges of a node that stay
      # Of none and k_subsets: target or source; None: target for none, source for k_subsets.
      'by': config_dict.placeholder(str),
      'include_empty': True,  # of output_subsets
      'penalty_weight': 10.0,  # lambda of Eq. 15
    }
  )
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
  adam = {'learning_rate': 3e-4, 'b1': 0.5, 'b2': 0.999, 'weight_decay': 1e-3}
  config.alpha, config.beta = ConfigDict(adam), ConfigDict(adam)
  config.parallel = ConfigDict({'backend': 'pmap'})
  config.checkpoint = ConfigDict({'every_steps': 0, 'keep': 3})  # 0: after every epoch
  config.log = ConfigDict({'tensorboard': False})
  return config


def train_config():
  """What a training can be told, with DARTS' recipe for CIFAR-10 (Liu et al. 2018) as defaults."""
  config = ConfigDict()
  config.seed = 0
  config.data = ConfigDict(
    {
      'name': 'cifar10',
      'path': config_dict.placeholder(str),  # where the files are, if not where TFDS keeps them
      'image_size': config_dict.placeholder(int),  # None: as the data set has it; streamed, 224
      'fraction': 1.0,  # part of the training images used
      'holdout': 0.0,  # part of these that is kept apart for validation
      'crop_padding': 4,  # in memory; a stream has crop_scale
      'flip': True,
      'cutout': 16,  # side of the square, in pixels; 0: none
      'on_bad_image': 'error',  # or skip
      **STREAM,
    }
  )
  config.model = ConfigDict(
    {
      'channels': 36,
      'num_layers': 20,
      'stem': 'cifar',  # or imagenet, for large images
      'auxiliary': True,  # a second classifier that helps training along
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
      'test_every_epoch': False,  # else the test images are looked at once, at the end
    }
  )
  config.weights = ConfigDict(
    {
      'schedule': 'cosine',  # linear exponential
      'learning_rate': 0.025,
      'final_learning_rate': 0.0,  # of cosine and linear
      'decay': 0.97,  # of exponential, after every epoch
      'warmup_epochs': 0,
      'momentum': 0.9,
      'weight_decay': 3e-4,
      'clip_norm': 5.0,
    }
  )
  config.parallel = ConfigDict({'backend': 'pmap'})
  config.checkpoint = ConfigDict({'every_steps': 0, 'keep': 3})  # 0: after every epoch
  config.log = ConfigDict({'tensorboard': False})
  return config


def one_of(*allowed):
  return lambda value: value in allowed, f'one of {", ".join(map(str, allowed))}'


def whole(least):
  return lambda v: isinstance(v, int) and v >= least, f'a whole number of at least {least}'


def below(most):
  return lambda v: 0 <= v < most, f'a number of at least 0 and below {most:g}'


def number(least, most=math.inf, above=False):
  test = lambda v: math.isfinite(v) and (least < v if above else least <= v) and v <= most
  bound = f'above {least:g}' if above else f'of at least {least:g}'
  return test, f'a number {bound}' + (f' and at most {most:g}' if most < math.inf else '')


RATE, DECAY = number(0, above=True), number(0, 1)
ADAM = {'learning_rate': RATE, 'b1': DECAY, 'b2': DECAY, 'weight_decay': number(0)}

ALLOWED = {
  'seed': whole(0),
  'data.name': one_of('digits', 'folder', 'cifar10', 'cifar100', 'imagenet2012'),
  'data.image_size': whole(8),
  'data.split': one_of('three_way', 'two_way'),
  'data.fraction': number(0, 1, above=True),
  'data.holdout': below(1),
  'data.crop_padding': whole(0),
  'data.cutout': whole(0),
  'data.crop_scale': number(0, 1, above=True),
  'data.jitter': number(0, 2.5),
  'data.workers': whole(0),
  'data.on_bad_image': one_of('error', 'skip'),
  'space.num_intermediate': (lambda v: v in range(1, 11), 'a whole number from 1 to 10'),
  'model.channels': whole(1),
  'model.num_layers': whole(1),
  'model.dtype': one_of('float32', 'bfloat16'),
  'model.stem': one_of('cifar', 'imagenet'),
  'model.form': one_of('auto', 'merged', 'planes'),
  'topology.kind': one_of('none', 'input_pairs', 'output_pairs', 'output_subsets', 'k_subsets'),
  'topology.k': whole(1),
  'topology.by': one_of('source', 'target'),
  'topology.penalty_weight': number(0),
  'relaxation.kind': one_of('softmax'),
  'relaxation.temperature': number(0, above=True),
  'rule.kind': one_of('first_order', 'second_order', 'exact_second_order', 'mixed', 'one_level'),
  'rule.val_weight': number(0),
  'search.epochs': whole(1),
  'search.batch_size': whole(1),
  'search.steps_per_call': whole(1),
  'train.epochs': whole(1),
  'train.batch_size': whole(1),
  'train.auxiliary_weight': number(0),
  'train.drop_path': below(1),
  'train.label_smoothing': below(1),
  'train.steps_per_call': whole(1),
  'weights.schedule': one_of('cosine', 'linear', 'exponential'),
  'weights.learning_rate': RATE,
  'weights.final_learning_rate': number(0),
  'weights.decay': number(0, 1, above=True),
  'weights.warmup_epochs': whole(0),
  'weights.momentum': DECAY,
  'weights.weight_decay': number(0),
  'weights.clip_norm': RATE,
  **{f'{name}.{field}': allowed for name in ('alpha', 'beta') for field, allowed in ADAM.items()},
  'parallel.backend': one_of('pmap', 'shard_map', 'single'),
  'checkpoint.every_steps': whole(0),
  'checkpoint.keep': whole(1),
}


def validate(config, like):
  """Raises ValueError, in one sentence, for a field that is unknown, missing or out of range.

  Args:
    config: a ConfigDict.
    like: the ConfigDict with all fields and their types that `config` may have.
  """
  values, known = flatten(config), flatten(like)
  for field in values.keys() ^ known.keys():
    state = 'missing' if field in known else 'unknown'
    raise ValueError(f'config.{field} is {state}; the fields are {", ".join(sorted(known))}')
  for field, value in values.items():
    expected = type_of(like, field)
    if value is None and known[field] is None:
      continue
    if not fits(value, expected):
      raise ValueError(
        f'config.{field} is {shown(value)} of type {type(value).__name__}; '
        f'it must be {expected.__name__}'
      )
    test, allowed = ALLOWED.get(field, (lambda v: True, ''))
    if not test(value):
      raise ValueError(f'config.{field} is {shown(value)}; it must be {allowed}')


def shown(value):
  """A value as messages show it: not much of it."""
  text = repr(value)
  return text if len(text) <= 200 else text[:197] + '...'


def updated(config, values):
  """`config` with the fields of a nested dict, as a run's `config.json` holds them, validated."""
  found = config.copy_and_resolve_references()
  try:
    found.update(values)
  except (TypeError, AttributeError, KeyError) as error:  # a group where a value belongs, and so on
    raise ValueError(f'a field of the config does not fit: {shown(str(error))}') from error
  validate(found, config)
  return found


def flatten(config, prefix=''):
  """`{'search.epochs': 50, ...}`"""
  flat = {}
  for name, value in config.items():
    nested = isinstance(value, ConfigDict)
    flat |= flatten(value, f'{prefix}{name}.') if nested else {prefix + name: value}
  return flat


def type_of(like, field):
  *folders, name = field.split('.')
  for folder in folders:
    like = like[folder]
  return like.get_type(name)


def fits(value, expected):
  """A bool is no number, and a whole number is a float."""
  if isinstance(value, bool) or expected is bool:
    return isinstance(value, bool) and expected is bool
  return isinstance(value, numbers.Real if expected is float else expected)
