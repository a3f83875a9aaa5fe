"""Search spaces: a graph and the operations that may stand on its edges."""

import dataclasses

from stretchnas_jax.architecture import graph as graph_lib

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


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """A graph and O names of operations."""

  graph: graph_lib.CellGraph
  primitives: tuple[str, ...]

  @property
  def num_operations(self):
    return len(self.primitives)


def darts_space(num_intermediate=4, with_none=False):
  """DARTS' operations (Liu et al. 2018), without `none` as in the paper, or with it."""
  primitives = DARTS_PRIMITIVES if with_none else DARTS_PRIMITIVES[1:]
  return SearchSpace(graph_lib.CellGraph(num_intermediate), primitives)
