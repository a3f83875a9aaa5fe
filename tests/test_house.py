"""The house keeps its order: layers, imports, configs."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest
from helpers import ROOT, load_config

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import zoo
from stretchnas_jax.runs import build, train_plan

PACKAGE = ROOT / 'stretchnas_jax'
# A folder imports only from the folders of earlier levels, and from itself.
LEVELS = [
  {'cells', 'machine', 'config'},
  {'views'},
  {'networks', 'data'},
  {'learning'},
  {'runs'},
  {'cli'},
  {'commands'},
  {'sweeps'},
]
COMMANDS = {
  'search', 'train', 'describe', 'draw', 'benchmark', 'export', 'check_data', 'what_if', 'explain',
  'import_darts', 'report', 'compare',
}  # fmt: skip


@functools.cache
def imports(path):
  """Modules that a file imports, at its top or inside functions."""
  modules = []
  for node in ast.walk(ast.parse(path.read_text('utf-8'))):
    if isinstance(node, ast.Import):
      modules += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      modules += [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
  return modules


def room_of_file(path):
  """The room of a file; a command that has the name of a room is the `__main__` there."""
  return 'commands' if len(path.parts) == 1 or path.name == '__main__.py' else path.parts[0]


def room_of(module):
  """The folder of a dotted module name; 'commands' for the files at the root."""
  parts = module.split('.')
  if parts[0] != 'stretchnas_jax' or len(parts) < 2:
    return None
  return 'commands' if parts[1] in COMMANDS else parts[1]


FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob('*.py'))


def test_every_file_stands_in_a_known_room():
  rooms = set().union(*LEVELS)
  for path in FILES:
    assert room_of_file(path) in rooms, path
    assert len(path.parts) > 1 or path.stem in {*COMMANDS, '__init__'}, path


@pytest.mark.parametrize('path', [p for p in FILES if p.name != '__init__.py' or len(p.parts) > 1])
def test_a_file_imports_only_from_earlier_levels(path):
  room = room_of_file(path)
  level = next(i for i, rooms in enumerate(LEVELS) if room in rooms)
  allowed = set().union({room}, *LEVELS[:level])
  used = {room_of(module) for module in imports(PACKAGE / path)} - {None, '__version__'}
  assert used <= allowed, used - allowed


def test_only_networks_knows_the_fast_forms():
  for path in FILES:
    used = [m for m in imports(PACKAGE / path) if m.startswith('stretchnas_jax.networks.forms')]
    assert not used or path.parts[0] == 'networks', path


@pytest.mark.parametrize(
  'library, allowed',
  [
    ('orbax', {'runs/checkpoint/store.py'}),
    (
      'ml_collections',
      {'config/__init__.py', 'config/defaults.py', 'config/checks.py', 'cli/config_flags.py'},
    ),
    ('absl', {'cli/command_line.py', 'cli/config_flags.py'}),
    ('tensorflow', set()),
    ('matplotlib', {'views/charts.py'}),
    ('scipy', {'runs/statistics.py'}),
  ],
)
def test_a_library_stays_where_it_belongs(library, allowed):
  users = {
    str(path.relative_to(PACKAGE))
    for path in PACKAGE.rglob('*.py')
    if any(module.split('.')[0] == library for module in imports(path))
  }
  assert users <= allowed


# What runs code that it is given, or makes any object that it is told to.
FORBIDDEN = {
  'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'pickle.load', 'pickle.loads',
  'pickle.Unpickler', 'marshal.load', 'marshal.loads', 'shelve.open', 'joblib.load', 'torch.load',
  'pandas.read_pickle', 'yaml.load', 'yaml.unsafe_load', 'yaml.full_load', 'dill.load',
  'dill.loads', 'cloudpickle.load', 'cloudpickle.loads',
}  # fmt: skip


def dangers(text):
  """Calls in a program that give way to a stranger's code."""
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.ImportFrom):
      yield from {f'{node.module}.{alias.name}' for alias in node.names} & FORBIDDEN
    if not isinstance(node, ast.Call):
      continue
    called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
    weights = called == 'torch.load' and keywords.get('weights_only') == 'True'
    if (called in FORBIDDEN and not weights) or keywords.get('shell', 'False') != 'False':
      yield called
    if called in ('np.load', 'numpy.load') and keywords.get('allow_pickle') != 'False':
      yield called


@pytest.mark.parametrize('folder', ['stretchnas_jax', 'configs', 'experiments'])
def test_nothing_here_runs_the_code_of_strangers(folder):
  for path in (ROOT / folder).rglob('*.py'):
    assert not list(dangers(path.read_text('utf-8'))), path


@pytest.mark.parametrize(
  'text',
  [
    'eval(x)', 'exec("1")', 'pickle.load(f)', 'from pickle import loads', 'np.load(f)',
    'np.load(f, allow_pickle=True)', 'torch.load(f)', 'yaml.load(f)', 'pickle.Unpickler(f)',
    'subprocess.run(x, shell=True)', 'torch.load(f, weights_only=w)',
  ],
)  # fmt: skip
def test_the_test_for_such_code_finds_it(text):
  assert list(dangers(text))


def test_nothing_unpickles():
  """CIFAR's files are pickles; a reader of our own takes their bytes, and calls nothing.

  The table of NAS-Bench-201 lies in an installed package. Its unpickler knows two names.
  """
  for path in set(FILES) - {pathlib.Path('cells/nas_bench_table.py')}:
    machines = {'pickle', '_pickle', 'pickletools', 'shelve', 'marshal', 'dill', 'cloudpickle'}
    assert not machines & {module.split('.')[0] for module in imports(PACKAGE / path)}, path


def test_architecture_knows_neither_flax_nor_optax():
  for path in (PACKAGE / 'cells').glob('*.py'):
    assert not {module.split('.')[0] for module in imports(path)} & {'flax', 'optax', 'orbax'}


def test_importing_the_package_is_light():
  code = '; '.join(
    [
      'import sys, stretchnas_jax',
      'from jax._src import xla_bridge',
      'from absl import flags',
      'assert not xla_bridge._backends, "a backend was started"',
      'heavy = {"tensorflow", "tensorflow_datasets", "orbax", "sklearn", "PIL", "tqdm"}',
      'heavy.add("matplotlib")',
      'assert not heavy & set(sys.modules), heavy & set(sys.modules)',
      'assert "config" not in flags.FLAGS and "workdir" not in flags.FLAGS',
      'assert all(hasattr(stretchnas_jax, name) for name in stretchnas_jax.__all__)',
    ]
  )
  subprocess.run([sys.executable, '-W', 'error', '-c', code], check=True)


CONFIGS = {
  'digits': [()],
  'folder': [()],
  'darts_cifar10': [('first',), ('second',), ('first_output',), ('second_output',)],
  'darts_wo_sc_cifar10': [()],
  'darts_sc_cifar10': [()],
  'milenas_cifar10': [()],
  'milenas_sc_cifar10': [('8',), ('12',), ('16',)],
  'milenas_sc_imagenet': [()],
  'own_parts': [()],
  'p_darts_cifar10': [(), ('sc',)],
  'dots_cifar10': [(), ('sc',)],
  'drnas_cifar10': [(), ('sc',)],
  'gradual_pruning_cifar10': [(), ('sc',)],
  'darts_plus_cifar10': [(), ('sc',)],
  'pc_darts_cifar10': [(), ('sc',)],
  'own_method': [()],
  'snas_cifar10': [(), ('sc',)],
  'gdas_cifar10': [(), ('sc',)],
  'fair_darts_cifar10': [(), ('sc',)],
  'beta_darts_cifar10': [(), ('sc',)],
  'proxyless_cifar10': [(), ('sc',)],
  's1': [('first',), ('second',), ('sc',)],
  's2': [('first',), ('sc',)],
  's3': [('first',), ('sc',)],
  's4': [('first',), ('sc',)],
  'darts_minus_cifar10': [(), ('sc',)],
  'nas_bench_201': [('darts_first',), ('milenas_sc',), ('pc_darts_sc',)],
}


TRAIN_CONFIGS = {  # (H, W, C) of an image of the data set
  'train_digits': (8, 8, 1),
  'train_folder': (32, 32, 3),
  'train_cifar10': (32, 32, 3),
  'train_imagenet': (224, 224, 3),
}


def test_no_config_is_untested():
  names = {p.stem for p in (ROOT / 'configs').glob('*.py')}
  assert names == {*CONFIGS, *TRAIN_CONFIGS}


@pytest.mark.parametrize('name', TRAIN_CONFIGS)
def test_every_train_config_is_valid_and_its_network_takes_its_images(name):
  config = load_config(ROOT / 'configs' / f'{name}.py')
  config.lock()
  config_lib.validate(config, config_lib.train_config(), build.CHOICES)
  shape, cell = TRAIN_CONFIGS[name], zoo.GENOTYPES['DARTS_V2']
  train_plan.check_config(config)
  sizes = build.train_objects(
    config, cell, num_classes=10, image_shape=shape, steps_per_epoch=10
  ).sizes
  assert sizes.params > 10_000


@pytest.mark.parametrize('name, args', [(n, a) for n, all_ in CONFIGS.items() for a in all_])
def test_every_search_config_is_valid_and_builds(name, args):
  config = load_config(ROOT / 'configs' / f'{name}.py', *args)
  config.lock()
  config_lib.validate(config, config_lib.search_config(), build.CHOICES)
  net, table, _ = build.search_objects(
    config, num_classes=10, image_shape=(32, 32, 3), num_steps=100
  )
  has_rows = config.topology.kind != 'none'
  assert (len(table.mask) > 0) == has_rows
  assert ('none' in net.space.primitives) == (config.space.with_none or config.space.name == 's3')


@pytest.mark.parametrize('name, arg', [('darts_cifar10', 'third'), ('milenas_sc_cifar10', '9')])
def test_a_wrong_argument_of_a_config_is_named(name, arg):
  with pytest.raises(ValueError, match=arg):
    load_config(ROOT / 'configs' / f'{name}.py', arg)


@pytest.mark.parametrize(
  'field, value, words',
  [
    ('search.epochs', 0, 'config.search.epochs is 0; it must be a whole number of at least 1'),
    ('search.epochs', True, 'config.search.epochs is True of type bool'),
    ('model.channels', 0, 'config.model.channels is 0; it must be a whole number of at least 1'),
    ('data.name', 'mnist', "config.data.name is 'mnist'; it must be one of digits, folder"),
    ('data.fraction', 0.0, 'above 0 and at most 1'),
    ('data.crop_scale', 1.5, 'config.data.crop_scale is 1.5; it must be a number above 0 and at'),
    ('data.jitter', 3.0, 'config.data.jitter is 3.0; .* at most 2.5'),
    ('data.workers', -1, 'config.data.workers is -1'),
    ('data.stream', 1, 'config.data.stream is 1 of type int; it must be bool'),
    ('model.stem', 'large', 'one of cifar, imagenet'),
    ('weights.learning_rate', float('nan'), 'config.weights.learning_rate is nan'),
    ('topology.kind', 'star', 'config.topology.kind'),
    ('parallel.backend', 'mpi', 'pmap, shard_map, single'),
  ],
)
def test_a_wrong_field_is_named(field, value, words):
  config = config_lib.search_config()
  folder, name = field.split('.')
  with config[folder].ignore_type():
    config[folder][name] = value
  with pytest.raises(ValueError, match=words):
    config_lib.validate(config, config_lib.search_config(), build.CHOICES)


def test_unknown_and_missing_fields_are_named():
  config = config_lib.search_config()
  config.search.epoch = 3
  with pytest.raises(ValueError, match='config.search.epoch is unknown'):
    config_lib.validate(config, config_lib.search_config(), build.CHOICES)
  config = config_lib.search_config()
  del config.seed
  with pytest.raises(ValueError, match='config.seed is missing'):
    config_lib.validate(config, config_lib.search_config(), build.CHOICES)
