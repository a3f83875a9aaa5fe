"""The examples in docstrings, and on the page of the Python interface, are true."""

import ast
import doctest
import importlib.util
import io
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT, TINY_CELL
from past_runs import write_search
from test_import_darts import weights_of

import stretchnas_jax as snas
from stretchnas_jax.runs import safetensors_file

PACKAGE = ROOT / 'stretchnas_jax'
PAGE = ROOT / 'docs' / 'reference' / 'api.md'
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
# The page says that examples begin with these.
GIVEN = {'jax': jax, 'jnp': jnp, 'np': np, 'snas': snas}


def examples_of(name: str) -> Iterator[doctest.DocTest]:
  """Yields the examples of a module. A wrapper around a function hides it from doctest's finder."""
  path = PACKAGE / f'{name.replace(".", "/")}.py'
  globs = vars(importlib.import_module(f'stretchnas_jax.{name}')) | GIVEN
  for node in ast.walk(ast.parse(path.read_text('utf-8'))):
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and '>>>' in (
      ast.get_docstring(node) or ''
    ):
      text = ast.get_docstring(node)
      yield doctest.DocTestParser().get_doctest(
        text, dict(globs), f'{name}.{node.name}', str(path), node.lineno
      )


MODULES = sorted(
  '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
  for path in PACKAGE.rglob('*.py')
  if '>>>' in path.read_text('utf-8')
)
EXAMPLES = [example for name in MODULES for example in examples_of(name)]


def functions_of_the_page() -> Iterator[str]:
  """Yields `module.function` for all functions that the page of the Python interface shows."""
  text = PAGE.read_text('utf-8')
  yield from re.findall(r'autofunction:: stretchnas_jax\.(\S+)', text)
  for name, members in re.findall(r'automodule:: stretchnas_jax\.(\S+)\n +:members:([^\n]*)', text):
    path = PACKAGE / f'{name.replace(".", "/")}.py'
    chosen = [member for member in re.split(r'[, ]+', members) if member]
    for node in ast.parse(path.read_text('utf-8')).body:
      public = isinstance(node, ast.FunctionDef) and not node.name.startswith('_')
      if public and (not chosen or node.name in chosen):
        yield f'{name}.{node.name}'


@pytest.fixture
def runs(tmp_path, monkeypatch, shared_programs):
  """Works in a folder with the runs and files that examples name."""
  write_search(tmp_path / 'runs' / 'digits', nodes=1)
  (tmp_path / 'runs' / 'd1').symlink_to(ROOT / 'tests' / 'fixtures' / 'runs_0_1' / 'train')
  content = safetensors_file.content(weights_of(), {})
  (tmp_path / 'cifar10_model.safetensors').write_bytes(content)
  (tmp_path / 'genotype.json').write_text(snas.genotype.to_json(TINY_CELL))
  monkeypatch.chdir(tmp_path)


def run(example: doctest.DocTest) -> str:
  """Runs an example; returns what was wrong."""
  out = io.StringIO()
  doctest.DocTestRunner(optionflags=FLAGS).run(example, out=out.write)
  return out.getvalue()


def test_all_functions_of_the_page_have_examples():
  shown, named = {example.name for example in EXAMPLES}, set(functions_of_the_page())
  assert len(named) > 80 and not named - shown


# The README's code, which another test runs, is nearly the same.
WHOLE_RUNS = ('runs.entry_points.run_search', 'runs.entry_points.run_train')


@pytest.mark.parametrize(
  'example',
  [
    pytest.param(one, id=one.name, marks=[pytest.mark.long] * (one.name in WHOLE_RUNS))
    for one in EXAMPLES
  ],
)
def test_an_example_is_true(example, runs):
  is_table = example.name.startswith('cells.nas_bench_201.')
  if is_table and not importlib.util.find_spec('analognasbench'):
    pytest.skip('the extra nasbench is not installed')
  assert not run(example)


def test_the_examples_of_the_page_are_true():
  text = PAGE.read_text('utf-8')
  example = doctest.DocTestParser().get_doctest(text, {}, 'api', str(PAGE), 0)
  assert len(example.examples) > 10 and not run(example)
