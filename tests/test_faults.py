"""Faults of the user are one line in every phase; errors of the program keep their traces."""

import ast
import json
import lzma
import pathlib
import shutil
import tarfile
import zlib

import pytest
from helpers import TINY_CELL, TINY_TRAINING, tiny_training

from stretchnas_jax import describe, train
from stretchnas_jax.cells import genotype
from stretchnas_jax.cli import app
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import entry_points, fields, json_files

CONFIG = f"""
from stretchnas_jax import config as config_lib

def get_config():
  config = config_lib.train_config()
  config.update_from_flattened_dict({TINY_TRAINING!r})
  return config
"""


@pytest.fixture(autouse=True)
def quiet(root_logger):
  """Puts the log handlers of programs away again."""


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A folder with a config, a cell, and runs that count as finished; none of them ran."""
  place = tmp_path_factory.mktemp('finished')
  (place / 'tiny.py').write_text(CONFIG)
  (place / 'cell.json').write_text(genotype.to_json(TINY_CELL))
  result = json.dumps({'last_val_accuracy': 0.5, 'test_accuracy': 0.5, 'seconds': 1.0})
  for name, seeds in (('one', None), ('several', (0, 1))):
    entry_points.prepare_train(tiny_training(), place / name, TINY_CELL, seeds)
    (place / name / 'result.json').write_text(result)
    (place / name / 'genotype.json').write_text(genotype.to_json(TINY_CELL))
  for seed in (0, 1):
    entry_points.prepare_train(tiny_training(seed=seed), place / f'several/seed_{seed}', TINY_CELL)
    (place / f'several/seed_{seed}' / 'result.json').write_text(result)
  (place / 'several' / 'result.json').unlink()
  return place


@pytest.fixture
def place(finished, tmp_path):
  """A copy of that folder."""
  return shutil.copytree(finished, tmp_path / 'place')


def code_of(module, *words, **options):
  """The exit code of a command; any other error is raised."""
  options = {'options': module.OPTIONS, **options}
  try:
    app.run(module.prepare, argv=['prog', *map(str, words)], **options)
  except SystemExit as stop:
    return stop.code
  return 0


def training(place, name, *words):
  """The exit code of a training in the folder `place/name`."""
  config = f'--config={place / "tiny.py"}'
  cell = f'--genotype={place / "cell.json"}'
  return code_of(train, config, f'--workdir={place / name}', cell, *words)


def as_folder(path):
  """Puts a folder in the place of a file."""
  path.unlink()
  path.mkdir()


DAMAGES = {
  'empty': lambda path: path.write_bytes(b''),
  'half': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
  'bytes': lambda path: path.write_bytes(b'\xff\xfe\x00'),
  'list': lambda path: path.write_text('[]'),
  'deep': lambda path: path.write_text('[' * 100_000),
  'folder': as_folder,
}


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('file', ['result.json', 'config.json'])
def test_a_damaged_file_of_a_finished_run_is_one_line(place, file, damage, capsys):
  assert training(place, 'one') == 0
  DAMAGES[damage](place / 'one' / file)
  capsys.readouterr()
  assert training(place, 'one') == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and lines[0].startswith('error: ') and file in lines[0]


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('file', ['result.json', 'config.json'])
def test_a_damaged_file_of_one_of_several_runs_is_one_line(place, file, damage, capsys):
  """It is read when the work is under way."""
  DAMAGES[damage](place / 'several' / 'seed_0' / file)
  assert training(place, 'several', '--seeds=0,1') == 2
  (line,) = [text for text in capsys.readouterr().err.splitlines() if 'error' in text]
  assert line.startswith('error: ') and f'seed_0/{file}' in line


def test_a_result_without_a_figure_of_one_of_several_runs_is_one_line(place, capsys):
  path = place / 'several' / 'seed_0' / 'result.json'
  path.write_text('{"seconds": "long"}')
  assert training(place, 'several', '--seeds=0,1') == 2
  assert f'error: {path} is damaged, or of another program' in capsys.readouterr().err


@pytest.mark.parametrize('value', ['"high"', '{}', '[1]', '"0.7x"'])
def test_a_record_of_another_type_is_one_line(place, value, capsys):
  path = place / 'several' / 'seed_0' / 'result.json'
  path.write_text(f'{{"last_val_accuracy": {value}}}')
  assert code_of(describe, f'best:{place}/several', config=False, positional=('genotype',)) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f'error: {path} is damaged')


@pytest.mark.parametrize('value', ['{"data": 3}', '{"data": {"train": []}}', '{"jax": "x"}'])
def test_an_identity_of_another_type_is_one_line(place, value, capsys):
  path = place / 'one' / 'identity.json'
  path.write_text(value)
  (place / 'one' / 'result.json').unlink()
  assert training(place, 'one') == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ') and str(place / 'one') in line


def test_lines_whose_counters_are_no_numbers_are_damaged(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  lines = [{'step': 1, 'epoch': 1}, {'step': '2'}, {'step': 2, 'epoch': []}, {'epoch': True}, {}]
  path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
  assert json_files.read_lines(path) == [lines[0], {}]


@pytest.mark.parametrize('group', ['checkpoint', 'log'])
def test_a_free_group_of_another_type_is_replaced(place, group):
  path = place / 'one' / 'config.json'
  path.write_text(json.dumps({**json_files.read_object(path), group: 7}))
  assert training(place, 'one') == 0
  assert isinstance(json_files.read_object(path)[group], dict)


ERRORS = [
  ValueError('what is wrong'), EOFError('cut'), lzma.LZMAError('cut'), zlib.error('cut'),
  tarfile.ReadError('cut'), fields.Refused('what is wrong'),
]  # fmt: skip


@pytest.mark.parametrize('error', ERRORS, ids=repr)
def test_a_fault_is_one_line_in_every_phase(error, capsys):
  def fail(*args):
    raise error

  def fail_in_a_check(*args):
    with faults.checking():
      raise error

  for prepare in (fail, lambda args: fail_in_a_check):
    with pytest.raises(SystemExit) as stop:
      app.run(prepare, config=False, argv=['prog'])
    assert stop.value.code == 2 and capsys.readouterr().err == f'error: {error}\n'


@pytest.mark.parametrize('error', [TypeError('bug'), KeyError('bug'), ZeroDivisionError()])
def test_an_error_of_the_program_keeps_its_trace(error):
  def fail(*args):
    raise error

  for prepare in (fail, lambda args: fail):
    with pytest.raises(type(error)):
      app.run(prepare, config=False, argv=['prog'])


def test_a_file_with_another_content_is_named():
  for wrong in (lambda: int('x'), lambda: {}['a'], lambda: 1 + 'a', lambda: ().a):
    sentence = 'run/x.json is damaged, or of another program'
    with pytest.raises(faults.Fault, match=sentence), faults.reading('run/x.json'):
      wrong()


def test_everything_that_is_said_goes_through_one_file():
  package = pathlib.Path(app.__file__).parents[1]
  for path in package.rglob('*.py'):
    if path.name != 'output.py':
      calls = [n for n in ast.walk(ast.parse(path.read_text('utf-8'))) if isinstance(n, ast.Call)]
      said = {ast.unparse(n.func) for n in calls}
      assert not said & {'print', 'os.write', 'sys.stdout.write', 'sys.stderr.write'}, path
