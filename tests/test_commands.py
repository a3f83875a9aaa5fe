"""Commands that programs and documents print are accepted by the programs, from every folder."""

import pathlib
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
from helpers import ROOT, TINY_CELL, tiny_search, with_fields, write_classes

from stretchnas_jax import benchmark, describe, draw, export, search, train
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype, zoo
from stretchnas_jax.cells.nas_bench_cells import Cell
from stretchnas_jax.cli import command_line
from stretchnas_jax.config import files
from stretchnas_jax.runs import build, commands, find_cell, train_plan
from stretchnas_jax.runs.parts import Parts

V2 = zoo.GENOTYPES['DARTS_V2']
# Program -> (options, takes a config, takes a workdir, words without a flag, kinds of config).
PROGRAMS = {
  'search': (search.OPTIONS, True, True, (), ('search',)),
  'train': (train.OPTIONS, True, True, (), ('train',)),
  'benchmark': (benchmark.OPTIONS, True, False, (), ('search', 'train')),
  'describe': (describe.OPTIONS, False, False, ('genotype',), ()),
  'draw': (draw.OPTIONS, False, False, ('genotype',), ()),
  'export': (export.OPTIONS, False, False, ('workdir',), ()),
}


def parsed(text):
  """The arguments that a command gives to its program; the values of its config are checked."""
  words = shlex.split(text)
  python, dash, module, *rest = words
  assert dash == '-m' and python in ('python', sys.executable)
  program = module.removeprefix('stretchnas_jax.')
  options, config, workdir, positional, kinds = PROGRAMS[program]
  config = config and '--eval-only' not in rest
  options = (*command_line.start_options(config, workdir), *options)
  args = command_line.parse([program, *rest], config, options, positional, kinds)
  if config:
    kind = 'search' if 'search' in args.config else 'train'
    config_lib.validate(args.config, config_lib.default_config(kind), build.CHOICES)
  return args


def test_a_command_is_quoted_for_a_shell():
  text = commands.command(
    'train', ["a 'b'/c"], config='x y.py:z', fields={'data.path': '/m n'}, options={'trust': True}
  )
  assert shlex.split(text)[1:] == [
    '-m', 'stretchnas_jax.train', "a 'b'/c", '--config=x y.py:z', '--config.data.path=/m n',
    '--trust',
  ]  # fmt: skip
  assert shlex.split(text)[0] in ('python', sys.executable)


@pytest.mark.parametrize(
  'fields, name, expected',
  [
    ({'data.name': 'digits', 'data.image_size': 8}, 'train_digits', {}),
    ({'data.name': 'cifar10'}, 'train_cifar10', {}),
    ({'data.name': 'cifar100', 'data.path': 'c d'}, 'train_cifar10', {'data.name': 'cifar100'}),
    (
      {'data.name': 'imagenet2012', 'data.path': '/i', 'data.image_size': 128},
      'train_imagenet',
      {'data.image_size': 128},
    ),
    ({'parallel.backend': 'single'}, 'train_cifar10', {'parallel.backend': 'single'}),
  ],
)
def test_the_command_that_trains_has_the_fields_of_the_search(fields, name, expected, tmp_path):
  config = with_fields(config_lib.search_config(), fields)
  args = parsed(commands.train_command(config, tmp_path / 'a b', V2))
  assert args.config_file == name and args.workdir == tmp_path / 'a b-trained'
  assert args.genotype == str(tmp_path / 'a b' / 'genotype.json')
  assert expected.items() <= args.overrides.items()
  for field, value in args.overrides.items():
    if field == 'data.path':
      assert value == str(pathlib.Path(fields[field]).absolute())
    elif field in config_lib.flatten(config):
      assert value == config_lib.flatten(config)[field]


@pytest.mark.parametrize(
  'fields, expected',
  [
    ({'topology.kind': 'output_subsets', 'model.num_layers': 12}, 12),
    ({'topology.kind': 'output_pairs', 'model.num_layers': 20}, 20),
    ({'topology.kind': 'none', 'model.num_layers': 8}, 20),
    (
      {
        'search.phases': (
          {'epochs': 1, 'model.num_layers': 5},
          {'epochs': 1, 'model.num_layers': 11},
        )
      },
      11,
    ),
  ],
)
def test_a_cell_whose_topology_was_learned_is_trained_at_that_depth(fields, expected, tmp_path):
  config = with_fields(config_lib.search_config(), {'data.name': 'cifar10', **fields})
  assert parsed(commands.train_command(config, tmp_path, V2)).config.model.num_layers == expected


def test_the_command_trains_the_network_of_nas_bench_201(tmp_path):
  cell, config = Cell(('nor_conv_3x3',) * 6), config_lib.search_config()
  found = parsed(commands.train_command(config, tmp_path, cell)).config
  assert (found.model.channels, found.model.num_layers, found.model.auxiliary) == (16, 5, False)
  assert (found.train.drop_path, found.data.cutout) == (0, 0)
  shapes = {'num_classes': 10, 'image_shape': (32, 32, 3), 'steps_per_epoch': 1}
  assert build.train_objects(found, cell, **shapes).sizes.params == 1_531_546  # as published


@pytest.mark.parametrize('has_test', [False, True])
def test_the_command_trains_on_small_images_of_a_folder(tmp_path, monkeypatch, has_test):
  """A few images of 8 pixels in a folder with a space; the command is read in another folder."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.chdir(tmp_path)
  write_classes(tmp_path / 'my images' / 'train', 'abc')
  if has_test:
    write_classes(tmp_path / 'my images' / 'test', 'abc')
  config = tiny_search(**{'data.name': 'folder', 'data.path': 'my images'})
  run = tmp_path / 'run 1'
  run.mkdir()
  (run / 'genotype.json').write_text(genotype.to_json(TINY_CELL))
  text = commands.train_command(config, run, TINY_CELL)
  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  args = parsed(text)
  assert args.overrides['data.image_size'] == 8 and args.overrides['model.auxiliary'] is False
  assert ('data.holdout' in args.overrides) == (not has_test)
  cell = find_cell.genotype_from(args.genotype)
  plan = train_plan.plan_train(args.config, genotype=cell)
  assert plan.feeds.test is not None or plan.feeds.val is not None
  plan.feeds.close()


def test_own_images_and_operations_from_python_are_named_in_a_call(tmp_path):
  path, config = tmp_path / "it's", config_lib.search_config()
  images = np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, int)
  text = commands.train_command(config, path, V2, Parts(data=images, operations={'x': print}))
  assert text.startswith('stretchnas_jax.run_train(config, "') and text.endswith(
    ', parts=..., data=...)'
  )
  compile(text, 'a call', 'eval')


def documented_commands():
  """All commands of these programs in the README and in the docstrings of configs."""
  known = '|'.join(PROGRAMS)
  pages = ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))
  for path in (*pages, *sorted((ROOT / 'configs').glob('*.py'))):
    text = path.read_text('utf-8').replace('\\\n', ' ')
    for found in re.findall(rf'^ *(python -m stretchnas_jax\.(?:{known}) .*)$', text, re.MULTILINE):
      yield pytest.param(found.split(' # ')[0].rstrip(' &'), id=f'{path.name}-{found[25:60]}')


@pytest.mark.parametrize('text', list(documented_commands()))
def test_a_documented_command_is_accepted(text, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  parsed(text)


def test_an_installed_package_holds_the_configs(tmp_path, monkeypatch):
  """In a wheel the configs stand inside the package."""
  shutil.copytree(ROOT / 'configs', tmp_path / 'package' / 'configs')
  monkeypatch.setattr(files, '__file__', str(tmp_path / 'package' / 'config' / 'files.py'))
  assert files.find('digits').path == tmp_path / 'package' / 'configs' / 'digits.py'
  assert len(files.named()) == len(list((ROOT / 'configs').glob('*.py')))
  assert "'stretchnas_jax.configs': 'configs'" in (ROOT / 'setup.py').read_text('utf-8')
