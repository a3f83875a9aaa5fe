"""The Python code in the README, and on the pages of whole examples, runs."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (
  'README.md',
  'docs/python.md',
  'docs/training.md',
  'docs/howto/exchange.md',
  'docs/howto/log.md',
)
BLOCKS = [
  pytest.param(page, block, id=f'{page}-{i}', marks=() if page == 'README.md' else pytest.mark.long)
  for page in PAGES
  for i, block in enumerate(
    re.findall(r'```python\n(.*?)```', (ROOT / page).read_text('utf-8'), re.DOTALL)
  )
]


def test_the_pages_have_python_code():
  assert len(BLOCKS) >= 6


@pytest.mark.parametrize('page, block', BLOCKS)
def test_the_code_runs(page, block):
  exec(compile(block, page, 'exec'), {'__name__': 'page'})
