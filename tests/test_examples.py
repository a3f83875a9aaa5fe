"""The examples in docstrings, and on the page of the Python interface, are true."""

import ast
import doctest
import importlib
import io
from collections.abc import Iterator

import pytest
from helpers import ROOT

MODULES = (
  'cells.graph',
  'cells.space',
  'cells.topology',
  'cells.topology_tables',
  'cells.random_cells',
  'networks.network',
  'networks.sizes',
  'networks.supernet',
)
PAGE = ROOT / 'docs' / 'reference' / 'api.md'
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL

# The public contract, without programs that take seconds.
SHOWN = {
  'CellGraph', 'SearchSpace', 'darts_space', 'nas_bench_201', 'input_pairs', 'output_pairs',
  'output_subsets', 'k_subsets', 'edge_scores', 'invalid_topology_penalty', 'select',
  'count_params', 'count_macs', 'count_flops_ptflops', 'count_supernet_params', 'FixedNetwork',
  'Supernet', 'random_cell',
}  # fmt: skip


def examples_of(name: str) -> Iterator[doctest.DocTest]:
  """Yields the examples of a module. A wrapper around a function hides it from doctest's finder."""
  path = ROOT / 'stretchnas_jax' / f'{name.replace(".", "/")}.py'
  globs = vars(importlib.import_module(f'stretchnas_jax.{name}'))
  for node in ast.walk(ast.parse(path.read_text('utf-8'))):
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and '>>>' in (
      ast.get_docstring(node) or ''
    ):
      text = ast.get_docstring(node)
      yield doctest.DocTestParser().get_doctest(
        text, dict(globs), node.name, str(path), node.lineno
      )


EXAMPLES = [example for name in MODULES for example in examples_of(name)]


def run(example: doctest.DocTest) -> str:
  """Runs an example; returns what was wrong."""
  out = io.StringIO()
  doctest.DocTestRunner(optionflags=FLAGS).run(example, out=out.write)
  return out.getvalue()


def test_the_public_contract_has_examples():
  assert {example.name for example in EXAMPLES} >= SHOWN


@pytest.mark.parametrize('example', EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_true(example):
  assert not run(example)


def test_the_examples_of_the_page_are_true():
  text = PAGE.read_text('utf-8')
  example = doctest.DocTestParser().get_doctest(text, {}, 'api', str(PAGE), 0)
  assert len(example.examples) > 10 and not run(example)
