"""The page on differences from the published code: it is linked, and its fields exist."""

import re

import pytest
from helpers import ROOT, load_config

from stretchnas_jax import config as config_lib
from stretchnas_jax.runs import build, phases

PAGE = (ROOT / 'docs/differences.md').read_text('utf-8')


def test_the_readme_links_the_page():
  assert '(docs/differences.md)' in (ROOT / 'README.md').read_text('utf-8')


def test_every_field_that_the_page_names_can_be_set():
  fields = config_lib.FIELDS['search'] | config_lib.FIELDS['train']
  named = re.findall(r'`((?:data|model|weights|train|rule)\.[a-z_.]+)(?:=([\w.+-]+))?`', PAGE)
  assert len(named) > 8
  for field, value in named:
    assert field in fields, field
    if value:
      assert value in build.CHOICES.get(field, (value,)), (field, value)


def test_the_page_names_each_known_difference():
  """A list of subjects; who adds a difference adds it to the page and here."""
  for subject in (
    'same share of each class', 'without replacement', 'as they are', 'batch on all devices',
    'max pool', 'left out: 390 steps', 'n / (n - 1)', 'by epoch', 'TF32', 'optimizer of beta',
  ):  # fmt: skip
    assert subject in PAGE, subject


STRETCHABLE = [
  path
  for path in sorted((ROOT / 'configs').glob('*_cifar10.py'))
  if "'sc'" in path.read_text('utf-8')
]


@pytest.mark.parametrize('path', STRETCHABLE, ids=lambda path: path.stem)
def test_beta_has_the_optimizer_of_alpha_where_a_method_takes_stretchable_cells(path):
  """As the page says of the paper; in each phase."""
  for phase in phases.read(load_config(path, 'sc')):
    assert phase.config.beta == phase.config.alpha


def test_rows_of_the_tables_are_complete():
  width = 0
  for line in PAGE.splitlines():
    if not line.startswith('|'):
      width = 0  # a table ends
    elif not width:
      width = line.count('|')
    assert line.count('|') == width, line
