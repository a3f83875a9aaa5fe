"""Search spaces: a graph and the operations that may stand on its edges."""

import dataclasses
from collections.abc import Sequence

from stretchnas_jax.cells import graph as graph_lib

DARTS_PRIMITIVES = (
  'none',
  'max_pool_3x3',
  'avg_pool_3x3',
  'skip_connect',
  'sep_conv_3x3',
  'sep_conv_5x5',
  'dil_conv_3x3',
  'dil_conv_5x5',
)

# What a published cell may hold: `none` is an edge that is not there, the last two are NASNet's.
OPERATIONS = DARTS_PRIMITIVES[1:] + ('sep_conv_7x7', 'conv_7x1_1x7')


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """A graph and the O operations that compete on each of its edges.

  Attributes:
    graph: a `CellGraph`.
    primitives: O distinct names, known ones or a researcher's own; `none`, if there, is the
      operation that gives zero and is never derived.
  """

  graph: graph_lib.CellGraph
  primitives: Sequence[str]

  def __post_init__(self):
    names = self.primitives
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
      raise ValueError(f'primitives is {names!r}; it must be a sequence of names')
    object.__setattr__(self, 'primitives', tuple(names))
    repeated = sorted({name for name in self.primitives if self.primitives.count(name) > 1})
    if repeated:
      raise ValueError(f'primitives names {repeated[0]!r} more than once; names must be distinct')
    if not set(self.primitives) - {'none'}:
      raise ValueError(f'primitives is {names!r}; it must hold an operation other than none')

  @property
  def num_operations(self):
    """O, `none` included."""
    return len(self.primitives)


def darts_space(num_intermediate=4, with_none=False):
  """DARTS' operations (Liu et al. 2018), without `none` as in the paper, or with it."""
  primitives = DARTS_PRIMITIVES if with_none else DARTS_PRIMITIVES[1:]
  return SearchSpace(graph_lib.CellGraph(num_intermediate), primitives)
