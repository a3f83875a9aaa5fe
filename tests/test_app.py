"""Programs: exit codes, errors in one line, log lines, and the command `stretchnas`."""

import asyncio
import gc
import logging
import os
import pathlib
import subprocess
import sys
import types

import jax
import pytest

from stretchnas_jax.cli import app, console

CONFIG = """
from ml_collections import ConfigDict

def get_config():
  return ConfigDict({'seed': 0})
"""
WORDS = ['--config=conf.py', '--workdir=w']


@pytest.fixture(autouse=True)
def config_file(tmp_path, monkeypatch, root_logger):
  """A working folder with a config file."""
  monkeypatch.chdir(tmp_path)
  pathlib.Path('conf.py').write_text(CONFIG)


def exit_code(prepare, *words, config=False):
  """The exit code of a program that does not end well."""
  with pytest.raises(SystemExit) as stop:
    app.run(prepare, config=config, argv=['prog', *words])
  return stop.value.code


def test_errors_of_the_preparation_are_one_line_and_errors_of_the_work_are_raised(capsys):
  def refuse(args):
    raise ValueError('seed is -1;\nit must be 0 or more')

  assert exit_code(refuse) == 2
  assert capsys.readouterr().err == 'error: seed is -1; it must be 0 or more\n'
  assert exit_code(lambda args: pathlib.Path('/no/such/file').read_text()) == 2
  assert capsys.readouterr().err == 'error: /no/such/file: No such file or directory\n'
  with pytest.raises(ValueError, match='invalid literal'):
    app.run(lambda args: lambda: int('x'), config=False, argv=['prog'])
  with pytest.raises(KeyError):
    app.run(lambda args: {}['bug'], config=False, argv=['prog'])


def test_an_interruption_is_one_line(capsys):
  def interrupted(*args):
    raise KeyboardInterrupt

  assert exit_code(interrupted) == 130
  assert exit_code(lambda args: interrupted) == 130
  assert capsys.readouterr().err == 'interrupted\n' * 2


def test_a_job_of_several_processes_starts_first(monkeypatch, capsys):
  order = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **kwargs: order.append('distributed'))
  app.run(
    lambda args: order.append('prepare') or (lambda: order.append('work')),
    argv=['prog', *WORDS, '--distributed'],
  )
  assert order == ['distributed', 'prepare', 'work']

  def fail(**kwargs):
    raise RuntimeError('no coordinator')

  monkeypatch.setattr(jax.distributed, 'initialize', fail)
  assert exit_code(lambda args: None, *WORDS, '--distributed', config=True) == 2
  assert capsys.readouterr().err == 'error: --distributed: no coordinator\n'


def test_log_lines_are_short_and_libraries_are_quiet(capsys):
  console.set_up_logging()
  console.set_up_logging()
  logging.getLogger('stretchnas_jax.search').info('ours %d', 1)
  logging.getLogger('__main__').info('ours 2')
  logging.warning('ours 3')
  logging.getLogger('another_package').info('not shown')
  logging.getLogger('another_package').warning('shown')
  for level in (logging.WARNING, logging.ERROR):
    record = logging.LogRecord('absl', level, '/lib/orbax/x.py', 1, f'orbax {level}', (), None)
    logging.getLogger('absl').handle(record)
  # asyncio logs the error of a failed save again, after the program has shown it.
  future = asyncio.new_event_loop().create_future()
  future.set_exception(OSError('of a save'))
  future.get_loop().close()
  del future
  gc.collect()
  lines = capsys.readouterr().err.splitlines()
  expected = ['ours 1', 'ours 2', 'warning: ours 3', 'warning: shown', 'error: orbax 40']
  assert [line.split(' ', 1)[1] for line in lines] == expected


@pytest.mark.parametrize(
  'error, text',
  [
    (FloatingPointError('train_loss is nan'), 'error: train_loss is nan\n'),
    (OSError(28, 'No space left on device', 'runs/x'), 'error: runs/x: No space left on device\n'),
  ],
)
def test_a_full_disk_and_a_loss_that_is_not_finite_are_one_line(error, text, capsys):
  def work():
    raise error

  assert exit_code(lambda args: work) == 2 and capsys.readouterr().err == text


def test_too_little_memory_is_one_line_with_the_fields_that_help(capsys):
  def prepare(args):
    args.config = {'search': {}}
    return lambda: jax.numpy.zeros(2**50, 'int8').block_until_ready()

  code, err = exit_code(prepare), capsys.readouterr().err
  assert code == 2 and err.count('\n') == 1
  fields = 'config.search.batch_size, config.model.channels, config.model.num_layers'
  assert err.startswith(f'error: out of memory: lower {fields}, or set config.model.dtype to bfl')
  assert 'config.model.remat to True, on a GPU config.search.passes to in_turn' in err
  assert '1125899906842624 bytes' in err


def test_threads_of_a_failed_save_are_quiet_and_other_errors_are_not(monkeypatch):
  shown = []
  monkeypatch.setattr(sys, 'unraisablehook', lambda found: shown.append(str(found.exc_value)))
  console.set_up_logging()
  console.set_up_logging()
  for text in ('Event loop is closed', 'another'):
    sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(text)))
  assert shown == ['another']


def test_the_command_finds_its_programs(monkeypatch, capsys):
  called = []
  module = types.SimpleNamespace(main=lambda: called.append(list(sys.argv)))
  monkeypatch.setitem(sys.modules, 'stretchnas_jax.search', module)
  monkeypatch.setattr(sys, 'argv', ['/bin/stretchnas', 'search', '--config=x'])
  app.main()
  assert called == [['stretchnas search', '--config=x']]
  monkeypatch.setattr(sys, 'argv', ['/bin/stretchnas'])
  app.main()
  out = capsys.readouterr().out
  assert all(name in out for name in app.COMMANDS)
  monkeypatch.setattr(sys, 'argv', ['/bin/stretchnas', '--version'])
  app.main()
  assert capsys.readouterr().out.startswith('stretchnas 0.')
  monkeypatch.setattr(sys, 'argv', ['/bin/stretchnas', 'serach'])
  with pytest.raises(SystemExit) as stop:
    app.main()
  assert stop.value.code == 2
  assert capsys.readouterr().err == "error: no command 'serach'; did you mean search?\n"


def test_a_process_ends_with_the_exit_code():
  program = pathlib.Path('program.py')
  program.write_text(
    'from stretchnas_jax.cli import app\napp.run(lambda args: lambda: print(args.config.seed))\n'
  )
  environment = {**os.environ, 'PYTHONPATH': str(pathlib.Path(app.__file__).parents[2])}
  good, bad = (
    subprocess.Popen(
      [sys.executable, program, *WORDS[:1], override, *WORDS[1:]], env=environment, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    for override in ('--config.seed=7', '--config.sed=7')
  )  # fmt: skip
  assert (*good.communicate(timeout=120), good.returncode) == ('7\n', '', 0)
  out, err = bad.communicate(timeout=120)
  assert bad.returncode == 2 and out == '' and err.count('\n') == 1
