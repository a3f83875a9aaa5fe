"""Package and experiments are documented, annotated, in small pieces and plain English."""

import ast
import functools
import io
import pathlib
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from helpers import ROOT

PACKAGE = ROOT / 'stretchnas_jax'
FILES = sorted([*PACKAGE.rglob('*.py'), *(ROOT / 'experiments').rglob('*.py')])
CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
DOCS = sorted(path for path in (ROOT / 'docs').rglob('*.md') if 'generated' not in path.parts)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Documented(NamedTuple):
  """A function with the names of its parameters, without `self` and `cls`."""

  node: Function
  parameters: list[ast.arg]


@functools.cache
def tree_of(path: pathlib.Path) -> ast.Module:
  """Returns a file as Python reads it."""
  return ast.parse(path.read_text('utf-8'))


def functions_of(path: pathlib.Path) -> Iterator[Documented]:
  """Yields all functions of a file, methods and nested ones too."""
  for node in ast.walk(tree_of(path)):
    if isinstance(node, Function):
      given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
      yield Documented(node, [arg for arg in given if arg.arg not in ('self', 'cls')])


def docstrings_of(path: pathlib.Path) -> Iterator[str]:
  """Yields the docstrings of a file: of the module, its classes and its functions."""
  for node in ast.walk(tree_of(path)):
    if isinstance(node, Function | ast.ClassDef | ast.Module):
      yield ast.get_docstring(node) or ''


def prose_of(path: pathlib.Path) -> Iterator[str]:
  """Yields everything that a person reads in a file: comments, docstrings, messages."""
  text = path.read_text('utf-8')
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if token.type == tokenize.COMMENT:
      yield token.string
  for node in ast.walk(tree_of(path)):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
      yield node.value


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_are_short(path):
  assert path.read_text('utf-8').count('\n') <= 300
  lengths = {f.node.name: f.node.end_lineno - f.node.lineno + 1 for f in functions_of(path)}
  assert not {name: length for name, length in lengths.items() if length > 80}


def test_functions_are_annotated():
  parameters = [(path, arg) for path in FILES for f in functions_of(path) for arg in f.parameters]
  bare = [f'{path.name}:{arg.lineno} {arg.arg}' for path, arg in parameters if not arg.annotation]
  assert len(bare) < 0.1 * len(parameters), bare


def test_docstrings_say_what_the_arguments_are():
  documented = [
    (f'{path.name}:{f.node.name}', 'Args:' in ast.get_docstring(f.node))
    for path in FILES
    for f in functions_of(path)
    if len(f.parameters) >= 2 and f.node.name[0] != '_' and ast.get_docstring(f.node)
  ]
  without = [name for name, has_args in documented if not has_args]
  assert len(without) < 0.4 * len(documented), without


def test_docstrings_are_direct():
  words = [
    word.lower()
    for path in FILES
    for docstring in docstrings_of(path)
    for word in re.findall("[A-Za-z']+", docstring)
  ]
  assert words.count('what') < len(words) / 1000


# Turns that a reader has to take apart before he understands them.
INVOLVED = re.compile(r'\b(of what|but for|(?<!there )is no(?! longer)|anew)\b', re.IGNORECASE)


@pytest.mark.parametrize('path', [*FILES, *CONFIGS, *DOCS], ids=lambda path: path.name)
def test_prose_is_plain(path):
  prose = prose_of(path) if path.suffix == '.py' else path.read_text('utf-8').splitlines()
  found = [text for text in prose if INVOLVED.search(text)]
  assert not found
