"""The pages of the documentation: their commands are right, and their sentences short."""

import ast
import importlib
import pathlib
import re
import shlex
import statistics
from collections.abc import Iterator

import pytest
from helpers import ROOT

from stretchnas_jax.cli import app, command_line
from stretchnas_jax.runs import find_cell

GENERATED = ROOT / 'docs' / 'reference' / 'generated'
PAGES = sorted(
  path
  for path in [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')]
  if GENERATED not in path.parents and '_build' not in path.parts
)
LONGEST, MEAN = 35, 17  # words of a sentence


def name_of(path: pathlib.Path) -> str:
  """Returns the path of a page in the tree, for the name of a test."""
  return str(path.relative_to(ROOT))


def commands_of(path: pathlib.Path) -> list[str]:
  """Returns the commands of this package in the blocks for a shell."""
  blocks = re.findall(r'```bash\n(.*?)```', path.read_text('utf-8'), re.DOTALL)
  lines = '\n'.join(blocks).replace('\\\n', ' ').split('\n')
  return [
    line for line in lines if re.search(r'(^|\s)(stretchnas|python -m stretchnas_jax\.)', line)
  ]


COMMANDS = sorted({command for path in PAGES for command in commands_of(path)})


def sentences_of(path: pathlib.Path) -> Iterator[str]:
  """Yields the sentences of a page, without code, formulas, tables and headings."""
  text = re.sub(r'\A---\n.*?\n---\n', '', path.read_text('utf-8'), flags=re.DOTALL)
  text = re.sub(r'```.*?```|\$\$.*?\$\$', '\n\n', text, flags=re.DOTALL)
  lines = text.split('\n')
  text = '\n'.join('' if re.match(r'\s*(\||#|!\[| {4}\S)', line) else line for line in lines)
  text = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', text)  # links
  text = re.sub(r'`[^`]*`', 'code', text)
  for part in re.split(r'\n\s*\n|\n\s*(?:[-*]|\d+\.) ', text):
    for sentence in re.split(r'(?<=[.!?:;])\s+', part):
      if re.search('[a-z]', sentence):
        yield ' '.join(sentence.split())


def test_the_pages_are_there():
  assert len(PAGES) > 25 and len(COMMANDS) > 60


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_is_understood(command, monkeypatch):
  words = shlex.split(command, comments=True)
  words = [word for word in words if word not in ('&', '|') and '<' not in word]
  if 'stretchnas' in words:
    name = words[words.index('stretchnas') + 1]
    rest = words[words.index('stretchnas') + 2 :]
  else:
    place = next(word for word in words if word.startswith('stretchnas_jax.'))
    name = place.removeprefix('stretchnas_jax.')
    rest = words[words.index(place) + 1 :]
  if name.startswith('-') or '...' in rest or '--config=NAME' in rest:
    return
  assert name.replace('_', '-') in app.COMMANDS
  if any(word in ('--help', '--config=help') or 'my_method.py' in word for word in rest):
    return

  def parse(
    prepare, *, config=True, workdir=None, options=(), positional=(), kinds=(), needs_devices=None
  ):
    workdir = config if workdir is None else workdir
    options = (*command_line.start_options(config, workdir), *options)
    command_line.parse([name, *rest], config, options, positional, kinds)

  monkeypatch.setattr(app, 'run', parse)
  monkeypatch.setattr('sys.argv', [name, *rest])
  place = 'runs.__main__' if name == 'runs' else name.replace('-', '_')
  importlib.import_module(f'stretchnas_jax.{place}').main()


@pytest.mark.parametrize('path', PAGES, ids=name_of)
def test_sentences_are_short(path):
  sentences = list(sentences_of(path))
  lengths = [len(sentence.split()) for sentence in sentences]
  assert not [text for text, count in zip(sentences, lengths) if count > LONGEST]
  assert statistics.mean(lengths or [0]) <= MEAN


def clauses_of_tables(path: pathlib.Path) -> Iterator[str]:
  """Yields the sentences in the tables of a page."""
  text = re.sub(r'```.*?```', '', path.read_text('utf-8'), flags=re.DOTALL)
  text = re.sub(r'`[^`]*`', 'code', re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', text))
  for row in re.findall(r'^\s*\|(.*)\|\s*$', text, re.MULTILINE):
    for cell in re.split(r'(?<!\\)\|', row):
      yield from re.split(r'(?<=[.!?:;])\s+', cell.strip())


@pytest.mark.parametrize('path', PAGES, ids=name_of)
def test_sentences_in_tables_are_short(path):
  assert not [text for text in clauses_of_tables(path) if len(text.split()) > LONGEST]


def words_in(node: ast.expr) -> str:
  """Returns the text of a string in a program; a word stands for each value in it."""
  if isinstance(node, ast.JoinedStr):
    return ''.join(words_in(part) for part in node.values)
  if isinstance(node, ast.FormattedValue):
    return 'value'
  return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ''


def test_sentences_of_messages_are_short():
  calls = [
    node
    for path in (ROOT / 'stretchnas_jax').rglob('*.py')
    for node in ast.walk(ast.parse(path.read_text('utf-8')))
    if isinstance(node, ast.Call)
  ]
  texts = [words_in(argument) for call in calls for argument in call.args]
  messages = [text for text in texts if len(text.split()) > 3]
  sentences = [part for text in messages for part in re.split(r'(?<=[.!?:;])\s+', text)]
  lengths = [len(sentence.split()) for sentence in sentences]
  assert len(messages) > 500
  assert max(lengths) <= LONGEST and statistics.mean(lengths) <= MEAN


def test_cells_that_pages_name_exist():
  text = '\n'.join(commands for path in PAGES for commands in commands_of(path))
  for name in set(re.findall(r'\b[A-Z]{2,}[A-Z_0-9]*(?= |$)', text)) - {
    'RUN',
    'EDGE',
    'DIR',
    'FILE',
  }:
    find_cell.genotype_from(name)
