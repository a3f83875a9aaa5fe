"""The Python code in the README runs."""

import pathlib
import re

import pytest

TEXT = (pathlib.Path(__file__).parents[1] / 'README.md').read_text('utf-8')
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


def test_the_readme_has_python_code():
  assert len(BLOCKS) >= 3


@pytest.mark.parametrize('block', BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_runs(block):
  exec(compile(block, 'README.md', 'exec'), {'__name__': 'readme'})
