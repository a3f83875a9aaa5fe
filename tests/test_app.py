"""Command lines: what is accepted, and one clear line for what is not."""

import asyncio
import gc
import logging
import os
import pathlib
import re
import subprocess
import sys
import types

import jax
import pytest
from absl import flags

from stretchnas_jax.cli import app, console

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg='small'):
  if arg == 'wrong':
    raise ValueError("arg is 'wrong'; allowed are small, large")
  if arg == 'name':
    return undefined_name
  if arg == 'type':
    return len(3)
  if arg == 'file':
    open('/no/such/file')
  if arg == 'none':
    return None
  if arg == 'dict':
    return {'seed': 0}
  return ConfigDict({'seed': 0, 'flag': True, 'arg': arg, 'sizes': (3, 4),
                     'search': {'epochs': 50, 'rate': 0.1}})
"""

OPTIONS = (
  app.Option('genotype', None, 'which cell'),
  app.Option('steps', 5, 'how many'),
  app.Option('rate', 0.5, 'how fast'),
  app.Option('quiet', False, 'say nothing'),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
  """A folder with config files; the logger is put back afterwards."""
  monkeypatch.chdir(tmp_path)
  pathlib.Path('conf.py').write_text(CONFIG)
  pathlib.Path('syntax.py').write_text('def get_config(:\n')
  pathlib.Path('missing.py').write_text('import no_such_module_anywhere\n')
  pathlib.Path('empty.py').write_text('')
  root = logging.getLogger()
  handlers, level = list(root.handlers), root.level
  yield
  root.handlers[:] = handlers
  root.setLevel(level)


def parsed(*words, **kwargs):
  """What a program is given for these words."""
  found = []
  app.run(lambda args: lambda: found.append(args), argv=['prog', *words], **kwargs)
  return found[0]


def failure(capsys, *words, **kwargs):
  """The one line of an error, after a check of all else that belongs to one."""
  with pytest.raises(SystemExit) as stop:
    parsed(*words, **kwargs)
  out, err = capsys.readouterr()
  assert stop.value.code == 2 and out == ''
  assert err.startswith('error: ') and err.count('\n') == 1 and 'Traceback' not in err
  return err[len('error: ') : -1]


def test_a_config_with_overrides_and_options():
  args = parsed(
    '--config=conf.py:large', '--config.search.epochs=2', '--noconfig.flag', '--workdir=runs/x',
    '--steps=7', '--quiet', '--config.sizes=(5,6)', 'a_word', '--genotype=g.json',
    options=OPTIONS, positional=('cell',),
  )  # fmt: skip
  config = args.config
  assert (config.search.epochs, config.flag, config.arg, config.sizes) == (
    2,
    False,
    'large',
    (5, 6),
  )
  assert config.search.rate == 0.1 and config.is_locked
  assert args.overrides == {'search.epochs': 2, 'flag': False, 'sizes': (5, 6)}
  assert args.config_file == 'conf.py:large' and args.workdir == pathlib.Path('runs/x')
  assert (args.steps, args.rate, args.quiet, args.genotype) == (7, 0.5, True, 'g.json')
  assert args.cell == 'a_word' and args.distributed is None and args.argv[0] == 'prog'


def test_values_may_follow_a_space():
  args = parsed('--config', 'conf.py', '--config.search.epochs', '3', '--workdir', 'w')
  assert args.config.search.epochs == 3 and args.config_file == 'conf.py'


def test_a_program_without_config_has_only_what_it_asks_for():
  args = parsed('x', '--steps=1', config=False, options=OPTIONS[1:2], positional=('cell',))
  assert vars(args) == {'steps': 1, 'cell': 'x', 'argv': ['prog', 'x', '--steps=1']}
  assert not hasattr(parsed('--config=conf.py', workdir=False), 'workdir')


def test_two_programs_in_one_process_and_no_global_flags():
  before = set(flags.FLAGS)
  assert parsed('--config=conf.py', '--config.seed=1', '--workdir=w').config.seed == 1
  assert parsed('--config=conf.py', '--config.seed=2', '--workdir=w').config.seed == 2
  assert set(flags.FLAGS) == before


@pytest.mark.parametrize(
  'words, message',
  [
    (
      ['--config.search.epoch=2'],
      '--config.search.epoch: no such field; did you mean config.search.epochs',
    ),
    (
      ['--config.zzz=2'],
      '--config.zzz: no such field; .* config are arg, flag, search, seed, sizes',
    ),
    (['--noconfig.flags'], '--noconfig.flags: no such field; did you mean config.flag'),
    (['--config.search.epochs=abc'], 'config.search.epochs=abc: invalid literal'),
    (['--config.search.epochs=2.5'], 'config.search.epochs=2.5: invalid literal'),
    (['--config.search=3'], 'config.search=3'),
    (['--config.arg.x=3'], '--config.arg.x: no such field; config.arg is a value'),
    (['--zork=3'], "Unknown command line flag 'zork'"),
    (['--steps=many'], 'steps=many'),
    (['word', 'more'], "unexpected argument 'word'"),
    (['--config=conf.py'], '--config is given twice'),
  ],
)
def test_what_is_wrong_with_a_flag_is_said_in_a_line(capsys, words, message):
  text = failure(capsys, '--config=conf.py', '--workdir=w', *words, options=OPTIONS)
  assert re.search(message, text), text


@pytest.mark.parametrize(
  'config, message',
  [
    ('nope.py', "--config: no such file: 'nope.py'"),
    ('syntax.py', 'syntax.py: SyntaxError: .*line 1'),
    ('missing.py', 'missing.py: line 1: ModuleNotFoundError: .*no_such_module_anywhere'),
    ('empty.py', 'empty.py: it has no function get_config'),
    ('conf.py:wrong', "conf.py:wrong: arg is 'wrong'; allowed are small, large$"),
    ('conf.py:name', "conf.py:name: line 8: NameError: name 'undefined_name'"),
    ('conf.py:type', 'conf.py:type: line 10: TypeError'),
    ('conf.py:file', 'conf.py:file: line 12: FileNotFoundError: /no/such/file'),
    ('conf.py:dict', 'get_config.* returns a dict, not a ConfigDict'),
  ],
)
@pytest.mark.parametrize('space', [False, True])
def test_what_is_wrong_with_a_config_file_is_said_in_a_line(capsys, config, message, space):
  words = ['--config', config] if space else [f'--config={config}']
  text = failure(capsys, *words, '--workdir=w')
  assert re.search(message, text), text


def test_missing_and_misplaced_flags(capsys):
  assert failure(capsys, '--workdir=w') == '--config=FILE is required'
  assert failure(capsys, '--config.seed=1', '--workdir=w') == '--config=FILE is required'
  assert failure(capsys, '--config=conf.py') == '--workdir=DIR is required'
  assert failure(capsys, '--config=conf.py', '--workdir=') == '--workdir=DIR is required'
  assert failure(capsys, config=False, positional=('cell',)) == 'CELL is missing'
  text = failure(capsys, '--config.seed=1', '--config=conf.py', '--workdir=w')
  assert '--config.seed=1' in text and 'before' in text


def run_with(prepare):
  with pytest.raises(SystemExit) as stop:
    app.run(prepare, config=False, argv=['prog'])
  return stop.value.code


def test_errors_of_preparation_are_the_users_and_those_of_work_are_ours(capsys):
  def refuse(args):
    raise ValueError('seed is -1;\nit must be 0 or more')

  assert run_with(refuse) == 2
  assert capsys.readouterr().err == 'error: seed is -1; it must be 0 or more\n'
  assert run_with(lambda args: pathlib.Path('/no/such/file').read_text()) == 2
  assert capsys.readouterr().err == 'error: /no/such/file: No such file or directory\n'
  with pytest.raises(ValueError, match='invalid literal'):
    app.run(lambda args: lambda: int('x'), config=False, argv=['prog'])
  with pytest.raises(KeyError):
    app.run(lambda args: {}['bug'], config=False, argv=['prog'])


def test_an_interruption_is_one_line(capsys):
  def interrupted(*args):
    raise KeyboardInterrupt

  assert run_with(interrupted) == 130
  assert run_with(lambda args: interrupted) == 130
  assert capsys.readouterr().err == 'interrupted\n' * 2


def test_distributed_starts_before_anything_else(monkeypatch, capsys):
  order = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **kwargs: order.append('distributed'))
  words = ['prog', '--config=conf.py', '--workdir=w', '--distributed']
  app.run(lambda args: order.append('prepare') or (lambda: order.append('work')), argv=words)
  assert order == ['distributed', 'prepare', 'work']

  def fail(**kwargs):
    raise RuntimeError('no coordinator')

  monkeypatch.setattr(jax.distributed, 'initialize', fail)
  text = failure(capsys, '--config=conf.py', '--workdir=w', '--distributed')
  assert text == '--distributed: no coordinator'


def test_help_tells_the_flags_and_their_defaults(capsys):
  with pytest.raises(SystemExit) as stop:
    parsed('--help', options=OPTIONS, positional=('cell',))
  out, err = capsys.readouterr()
  assert stop.value.code == 0 and err == ''
  assert 'usage: prog CELL [options]' in out and '--steps=STEPS' in out and '(default: 5)' in out
  assert '--config=FILE[:arg]' in out and '--workdir=' in out and 'Command lines' in out


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
  # What asyncio says of a save that has failed, and has been said to have.
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
def test_what_the_world_does_to_a_run_is_said_in_one_line(error, text, capsys):
  def work():
    raise error

  with pytest.raises(SystemExit) as stop:
    app.run(lambda args: work, config=False, argv=['prog'])
  assert stop.value.code == 2 and capsys.readouterr().err == text


def test_too_little_memory_is_said_with_the_fields_that_help(capsys):
  def work():
    jax.numpy.zeros(2**50, 'int8').block_until_ready()

  config = {'search': {}}
  prepare = lambda args: setattr(args, 'config', config) or work
  with pytest.raises(SystemExit) as stop:
    app.run(prepare, config=False, argv=['prog'])
  err = capsys.readouterr().err
  assert stop.value.code == 2 and err.count('\n') == 1
  fields = 'config.search.batch_size, config.model.channels, config.model.num_layers'
  assert err.startswith(f'error: out of memory: lower {fields}, or set config.model.dtype to bfl')
  assert '1125899906842624 bytes' in err


def test_threads_of_a_failed_save_are_quiet_and_other_errors_are_not(monkeypatch):
  shown = []
  monkeypatch.setattr(sys, 'unraisablehook', lambda what: shown.append(str(what.exc_value)))
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
  names = ', '.join(name for name in app.COMMANDS)
  assert capsys.readouterr().err.startswith(f"error: no command 'serach'; there are {names}")


def test_in_a_process_of_its_own():
  program = pathlib.Path('program.py')
  program.write_text(
    'from stretchnas_jax.cli import app\napp.run(lambda args: lambda: print(args.config.seed))\n'
  )
  root = pathlib.Path(app.__file__).parents[1]
  run = lambda *words: subprocess.run(
    [sys.executable, program, *words], capture_output=True, text=True,
    env={**os.environ, 'PYTHONPATH': str(root)}, timeout=120,
  )  # fmt: skip
  good = run('--config=conf.py', '--config.seed=7', '--workdir=w')
  assert (good.returncode, good.stdout, good.stderr) == (0, '7\n', '')
  bad = run('--config=conf.py', '--config.sed=7', '--workdir=w')
  assert bad.returncode == 2 and bad.stdout == '' and bad.stderr.count('\n') == 1
