"""Configs by name, the fields that help lists, and slips in their names."""

import os
import pathlib
import re
import sys

import pytest
from test_command_line import CONFIG, config_files, failure, parsed

from stretchnas_jax import config as config_lib
from stretchnas_jax.config import files
from stretchnas_jax.runs import build

__all__ = ['config_files']  # a fixture


# ---- configs of the package ----------------------------------------------------------------------


def test_a_config_has_a_name_that_works_from_every_folder():
  args = parsed('--config=milenas_sc_cifar10:12', '--config.search.epochs=2', '--workdir=w')
  assert args.config.model.num_layers == 12 and args.config.search.epochs == 2
  assert parsed('--config', 'digits', '--workdir=w').config.data.name == 'digits'


def test_a_file_goes_before_a_name_and_may_have_a_colon_in_its_path():
  pathlib.Path('digits').write_text(CONFIG)
  assert parsed('--config=digits', '--workdir=w').config.arg == 'small'
  pathlib.Path('a:b').mkdir()
  pathlib.Path('a:b/c.py').write_text(CONFIG)
  assert parsed('--config=a:b/c.py', '--workdir=w').config.arg == 'small'
  assert parsed('--config=a:b/c.py:x:y', '--workdir=w').config.arg == 'x:y'


def test_a_config_file_that_changes_within_its_second_runs_as_it_is_now(monkeypatch):
  monkeypatch.setattr(sys, 'dont_write_bytecode', False)
  path = pathlib.Path('own.py')
  for argument in 'small', 'large':
    path.write_text(CONFIG.replace('small', argument))
    os.utime(path, (1e9, 1e9))
    assert config_lib.load('own.py').arg == argument
  assert not pathlib.Path('__pycache__').exists()


@pytest.mark.parametrize('words', [['--config=help'], ['--config', 'help', '--workdir=w']])
def test_all_configs_are_listed_with_a_line_each(capsys, words):
  with pytest.raises(SystemExit) as stop:
    parsed(*words)
  lines = capsys.readouterr().out.splitlines()
  assert stop.value.code == 0 and len(lines) == len(files.named())
  assert any(line.split() == ['train_folder', *line.split()[1:]] for line in lines)
  assert all(len(line.split()) > 4 for line in lines)


@pytest.mark.parametrize('kind, other', [('search', 'train'), ('train', 'search')])
def test_help_lists_every_field_with_default_meaning_and_allowed_values(capsys, kind, other):
  with pytest.raises(SystemExit):
    parsed('--help', kinds=(kind,))
  out = capsys.readouterr().out
  rows = config_lib.rows(kind, build.CHOICES)
  assert [row.field for row in rows] == list(config_lib.FIELDS[kind])
  assert set(config_lib.flatten(config_lib.default_config(kind))) == {row.field for row in rows}
  for row in rows:
    assert row.meaning and f'--config.{row.field} ' in out and row.meaning in out
    assert row.allowed in out
  assert f'--config.{other}.epochs' not in out
  assert 'output_pairs' in out or kind == 'train'


def test_fields_of_both_kinds_have_the_same_check():
  search, train = config_lib.FIELDS.values()
  for name in search.keys() & train.keys():
    first, second = search[name].check, train[name].check
    assert (first and first.allowed) == (second and second.allowed), name


@pytest.mark.parametrize(
  'config, kind, words',
  [
    (
      'train_digits',
      'search',
      'for `train`, since it has the group train; `search` needs .* digits',
    ),
    (
      'digits',
      'train',
      'for `search`, since it has the group search; `train` needs .* train_digits',
    ),
  ],
)
def test_a_config_for_another_program_is_named(capsys, config, kind, words):
  overrides = [f'--config={config}', f'--config.{kind}.epochs=2', '--workdir=w']
  assert re.search(words, failure(capsys, *overrides, kinds=(kind,)))


@pytest.mark.parametrize(
  'words, message',
  [
    (['--lr=0.1'], 'did you mean .* or --config.weights.learning_rate=0.1.$'),
    (['--batch-size=8'], 'did you mean --config.search.batch_size=8?'),
    (['--no-flip'], 'did you mean --noconfig.data.flip?'),
    (['--layers=3'], 'did you mean --config.model.num_layers=3?'),
    (['--config.learning_rate=1'], 'did you mean .* or --config.weights.learning_rate.$'),
    (['--config.nothing_like_it=1'], r'fields of config are alpha, .* and \d+ more$'),
    (['--zzzzzz'], "flag 'zzzzzz'; the options are --"),
  ],
)
def test_a_slip_with_a_config_of_the_package(capsys, words, message):
  text = failure(capsys, '--config=digits', '--workdir=w', *words, kinds=('search',))
  assert re.search(message, text), text
