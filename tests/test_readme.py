"""The README's Python runs as it stands."""

import pathlib
import re

import pytest

TEXT = (pathlib.Path(__file__).parents[1] / 'README.md').read_text('utf-8')
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


def test_there_are_blocks():
  assert len(BLOCKS) >= 3


@pytest.mark.parametrize('block', BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(block):
  exec(compile(block, 'README.md', 'exec'), {'__name__': 'readme'})
