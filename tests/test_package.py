"""The package says the same about itself everywhere."""

import ast
import re

import pytest
from helpers import ROOT

import stretchnas_jax

SETUP = ast.parse((ROOT / 'setup.py').read_text('utf-8'))
CONSTRAINTS = (ROOT / '.ci' / 'oldest.txt').read_text('utf-8').split('\n')
OLDEST = dict(line.split('==') for line in CONSTRAINTS if '==' in line)


def keyword(name: str) -> ast.expr:
  """Returns the expression that `setup` gets under a name."""
  calls = [node for node in ast.walk(SETUP) if isinstance(node, ast.Call)]
  call = next(node for node in calls if isinstance(node.func, ast.Name) and node.func.id == 'setup')
  return next(word.value for word in call.keywords if word.arg == name)


REQUIRED = ast.literal_eval(keyword('install_requires'))


@pytest.mark.parametrize('requirement', REQUIRED)
def test_the_oldest_versions_are_the_lower_bounds(requirement):
  name, bound = re.match(r'([\w-]+)>=([\d.]+)', requirement).groups()
  assert re.fullmatch(rf'{re.escape(bound)}(\.0)*', OLDEST[name]), (bound, OLDEST[name])


def test_nothing_else_has_an_oldest_version():
  assert OLDEST.keys() == {re.match(r'[\w-]+', text).group() for text in REQUIRED}


def test_the_version_is_in_the_citation_and_the_changelog():
  version = stretchnas_jax.__version__
  assert f'\nversion: {version}\n' in (ROOT / 'CITATION.cff').read_text('utf-8')
  assert re.findall(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text('utf-8'), re.M)[0] == version


def test_the_documentation_names_every_extra():
  node = keyword('extras_require')
  extras = {key.value for key in node.keys}
  assert extras >= {'docs', 'nasbench', 'onnx', 'torch', 'tensorboard', 'experiments', 'tf', 'test'}
  assert not [name for name in extras if f'`{name}`' not in (ROOT / 'docs/install.md').read_text()]
