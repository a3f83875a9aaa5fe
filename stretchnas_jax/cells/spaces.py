"""Search spaces of published studies beside that of DARTS: S1 to S4 (Zela et al. 2020)."""

import numpy as np
from jaxtyping import Bool

from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.cells.space import CELL_TYPES, SearchSpace

_NOISE = 'noise'
"""An operation that ignores its input and gives normal noise, also where a network is used."""

_LETTERS = {
  'M': 'max_pool_3x3',
  'A': 'avg_pool_3x3',
  'I': 'skip_connect',
  's3': 'sep_conv_3x3',
  's5': 'sep_conv_5x5',
  'd3': 'dil_conv_3x3',
  'd5': 'dil_conv_5x5',
}

# The two operations of each edge of S1, in DARTS' order of the edges.
_S1 = {
  'normal': (
    'I/d3 I/d5 I/d5 I/s3 I/d3 M/I I/s3 I/s3 I/d3 I/s3 M/I I/d3 d3/d5 d3/d5'
  ),
  'reduce': (
    'M/A M/d3 M/A M/A I/d5 M/A M/s3 I/d3 I/d5 M/A M/A I/d5 I/d5 I/d5'
  ),
}  # fmt: skip


def s1() -> SearchSpace:
  """Builds S1: four intermediate nodes, and two operations on each edge, which differ by edge.

  Example:
    >>> s1().allowed['normal'].sum(1).tolist() == [2] * 14
    True
  """
  names = [name for name in _LETTERS.values() if name != 'sep_conv_5x5']
  return SearchSpace(CellGraph(4), names, {cell: _s1_allowed(cell, names) for cell in CELL_TYPES})


def s2(num_intermediate: int = 4) -> SearchSpace:
  """Builds S2: a skip or a 3x3 separable convolution on each edge.

  Example:
    >>> s2().primitives
    ('skip_connect', 'sep_conv_3x3')
  """
  return SearchSpace(CellGraph(num_intermediate), ('skip_connect', 'sep_conv_3x3'))


def s3(num_intermediate: int = 4) -> SearchSpace:
  """Builds S3: S2 with `none`.

  Example:
    >>> s3().primitives
    ('none', 'skip_connect', 'sep_conv_3x3')
  """
  return SearchSpace(CellGraph(num_intermediate), ('none', 'skip_connect', 'sep_conv_3x3'))


def s4(num_intermediate: int = 4) -> SearchSpace:
  """Builds S4: noise or a 3x3 separable convolution on each edge.

  Example:
    >>> s4().primitives
    ('noise', 'sep_conv_3x3')
  """
  return SearchSpace(CellGraph(num_intermediate), (_NOISE, 'sep_conv_3x3'))


def _s1_allowed(cell: str, names: list[str]) -> Bool[np.ndarray, 'E O']:
  """Returns which operations the edges of S1 may have."""
  rows = [[_LETTERS[letter] for letter in pair.split('/')] for pair in _S1[cell].split()]
  return np.array([[name in row for name in names] for row in rows])
