"""Command lines: the words that are accepted, and one clear line for a wrong one."""

import pathlib
import re

import pytest
from absl import flags

from stretchnas_jax.cli import app, config_flags
from stretchnas_jax.cli.command_line import Option

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
  Option('genotype', None, 'which cell'),
  Option('steps', 5, 'how many'),
  Option('rate', 0.5, 'how fast'),
  Option('quiet', False, 'say nothing'),
)


@pytest.fixture(autouse=True)
def config_files(tmp_path, monkeypatch, root_logger):
  """A working folder with config files."""
  monkeypatch.chdir(tmp_path)
  pathlib.Path('conf.py').write_text(CONFIG)
  pathlib.Path('syntax.py').write_text('def get_config(:\n')
  pathlib.Path('missing.py').write_text('import no_such_module_anywhere\n')
  pathlib.Path('empty.py').write_text('')
  pathlib.Path('classes.py').write_text(
    'from __future__ import annotations\nimport dataclasses\n'
    'from ml_collections import ConfigDict\n'
    '@dataclasses.dataclass\nclass Size:\n  width: int = 3\n'
    'get_config = lambda: ConfigDict({"seed": Size().width})\n'
  )


def parsed(*words, **kwargs):
  """The arguments that a program receives for these words."""
  received = []
  app.run(lambda args: lambda: received.append(args), argv=['prog', *words], **kwargs)
  return received[0]


def failure(capsys, *words, **kwargs):
  """The text of an error; checks that it is one line on stderr with exit code 2."""
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
  assert config.search.epochs == 2 and config.flag is False and config.arg == 'large'
  assert config.sizes == (5, 6) and config.search.rate == 0.1 and config.is_locked
  assert args.overrides == {'search.epochs': 2, 'flag': False, 'sizes': (5, 6)}
  assert args.config_file == 'conf.py:large' and args.workdir == pathlib.Path('runs/x')
  assert (args.steps, args.rate, args.quiet, args.genotype) == (7, 0.5, True, 'g.json')
  assert args.cell == 'a_word' and args.distributed is None and args.argv[0] == 'prog'
  assert args.argv[1] == '--config=conf.py:large'


def test_a_value_can_follow_a_space():
  args = parsed('--config', 'conf.py', '--config.search.epochs', '3', '--workdir', 'w')
  assert args.config.search.epochs == 3 and args.config_file == 'conf.py'


def test_a_program_without_a_config_has_only_its_own_options():
  args = parsed('x', '--steps=1', config=False, options=OPTIONS[1:2], positional=('cell',))
  assert vars(args) == {'steps': 1, 'cell': 'x', 'argv': ['prog', 'x', '--steps=1']}
  assert not hasattr(parsed('--config=conf.py', workdir=False), 'workdir')


def test_two_programs_in_one_process_share_no_flags_and_no_config():
  before = set(flags.FLAGS)
  assert parsed('--config=conf.py', '--config.seed=1', '--workdir=w').config.seed == 1
  assert parsed('--config=conf.py', '--config.seed=2', '--workdir=w').config.seed == 2
  assert parsed('--config=classes.py', '--workdir=w').config.seed == 3
  assert set(flags.FLAGS) == before


@pytest.mark.parametrize(
  'words, message',
  [
    (
      ['--config.search.epoch=2'],
      '--config.search.epoch: no such field; did you mean --config.search.epochs',
    ),
    (
      ['--config.zzz=2'],
      '--config.zzz: no such field; .* config are arg, flag, search, seed, sizes',
    ),
    (['--noconfig.flags'], '--noconfig.flags: no such field; did you mean --config.flag'),
    (['--config.search.epochs=abc'], 'config.search.epochs=abc: it must be a whole number of at'),
    (['--config.search.epochs=2.5'], 'config.search.epochs=2.5: it must be a whole number'),
    (['--config.search.epochs', 'three'], 'config.search.epochs=three: it must be a whole number'),
    (['--config.search.rate=fast'], 'config.search.rate=fast: it must be a number'),
    (['--config.flag=maybe'], 'config.flag=maybe: it must be True or False'),
    (['--config.search=3'], 'config.search=3'),
    (['--config.arg.x=3'], '--config.arg.x: no such field; config.arg is a value'),
    (['--config.seed[0]=3'], 'seed'),
    (['--zork=3'], "Unknown command line flag 'zork'"),
    (['--steps=many'], '--steps=many: it must be a whole number'),
    (['word', 'more'], "unexpected argument 'word'; did you mean --genotype=word"),
    (['--epochs=3'], 'did you mean --config.search.epochs=3?'),
    (['epochs=three'], 'did you mean --config.search.epochs=three?'),
    (['search.epochs=3'], 'did you mean --config.search.epochs=3?'),
    (['--search.epochs=3'], 'did you mean --config.search.epochs=3?'),
    (['--config.epoch=3'], 'no such field; did you mean --config.search.epochs?'),
    (['--workdr=x'], 'did you mean --workdir=x?'),
    (['--step=3'], 'did you mean --steps=3?'),
    (['--save=x'], 'did you mean --workdir=x?'),
    (['--config=conf.py'], '--config is given twice'),
  ],
)
def test_a_wrong_flag_is_named_in_one_line(capsys, words, message):
  text = failure(capsys, '--config=conf.py', '--workdir=w', *words, options=OPTIONS)
  assert re.search(message, text), text


@pytest.mark.parametrize(
  'config, message',
  [
    ('nope.py', "--config: no such file: 'nope.py'"),
    (
      'elsewhere/digits.py',
      "no such file: 'elsewhere/digits.py'; .* of that name: --config=digits$",
    ),
    ('digts', "is called 'digts'; did you mean digits\\? --config=help lists them"),
    ('x' * 5000, 'no config of the package is called'),
    ('digits:8', "digits:8: it takes no argument after a colon, and '8' is one"),
    ('syntax.py', 'syntax.py: SyntaxError: .*line 1'),
    ('missing.py', 'missing.py: line 1: ModuleNotFoundError: .*no_such_module_anywhere'),
    ('empty.py', 'empty.py: it has no function get_config'),
    ('conf.py:wrong', "conf.py:wrong: arg is 'wrong'; allowed are small, large$"),
    ('conf.py:name', "conf.py:name: line 8: NameError: name 'undefined_name'"),
    ('conf.py:type', 'conf.py:type: line 10: TypeError'),
    ('conf.py:file', 'conf.py:file: line 12: FileNotFoundError: /no/such/file'),
    ('conf.py:none', 'get_config.* returns a NoneType, not a ConfigDict'),
    ('conf.py:dict', 'get_config.* returns a dict, not a ConfigDict'),
  ],
)
@pytest.mark.parametrize('space', [False, True])
def test_an_error_in_a_config_file_is_named_in_one_line(capsys, config, message, space):
  words = ['--config', config] if space else [f'--config={config}']
  text = failure(capsys, *words, '--workdir=w')
  assert re.search(message, text), text


@pytest.mark.parametrize('words', [['--distributed='], ['--genotype='], ['--genotype', '']])
def test_an_empty_value_is_refused(capsys, words):
  """A variable of the shell that is not set; before, the option was left out without a word."""
  text = failure(capsys, '--config=conf.py', '--workdir=w', *words, options=OPTIONS)
  name = words[0].rstrip('=')
  assert text == f'{name} is empty; give it a value, or leave it out'


def test_missing_and_misplaced_flags(capsys):
  assert failure(capsys, '--workdir=w') == config_flags.REQUIRED
  assert failure(capsys, '--config.seed=1', '--workdir=w') == config_flags.REQUIRED
  assert failure(capsys, 'digits', '--workdir=w').endswith('did you mean --config=digits?')
  assert failure(capsys, '--config=conf.py') == '--workdir=DIR is required'
  assert failure(capsys, '--config=conf.py', '--workdir=') == '--workdir=DIR is required'
  assert failure(capsys, config=False, positional=('cell',)) == 'CELL is missing'
  text = failure(capsys, '--config.seed=1', '--config=conf.py', '--workdir=w')
  assert '--config.seed=1' in text and 'before' in text


def test_help_lists_the_flags_and_their_defaults(capsys):
  with pytest.raises(SystemExit) as stop:
    parsed('--help', options=OPTIONS, positional=('cell',))
  out, err = capsys.readouterr()
  assert stop.value.code == 0 and err == ''
  assert 'usage: prog CELL [options]' in out and '--steps=STEPS' in out and '(default: 5)' in out
  assert '--config=NAME[:arg]' in out and '--workdir=' in out and 'Command lines' in out
