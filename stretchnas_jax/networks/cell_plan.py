"""The operations of a cell of the search network: on which edges each stands, and its arrays."""

import dataclasses
import functools

import numpy as np

from stretchnas_jax.cells.graph import Edge
from stretchnas_jax.cells.space import CELL_TYPES, DARTS_PRIMITIVES, OPERATIONS, SearchSpace
from stretchnas_jax.networks.forms import edge_groups
from stretchnas_jax.networks.forms.edge_groups import AUXILIARY_SKIP, EdgeGroup

_SKIPS = ('skip_connect', AUXILIARY_SKIP)

_Shape = tuple[int, ...]


def is_convolution(name: str) -> bool:
  """Returns whether an operation is separable or dilated, such as `sep_conv_3x3`."""
  return name in OPERATIONS and name.startswith(('sep_conv_', 'dil_conv_'))


def is_built_in(name: str) -> bool:
  """Returns whether the forms compute an operation; any other is a module of the researcher."""
  return name in (*DARTS_PRIMITIVES, 'noise') or is_convolution(name)


@dataclasses.dataclass(frozen=True)
class CellPlan:
  """The operations on the edges of a cell. Edges stand by source, then target, as parameters do.

  Attributes:
    space: the search space; S intermediate nodes, E edges, O operations.
    reduction: whether the edges from the two inputs have stride 2.
    auxiliary_skip: whether each edge has a skip connection beside its mixture.
    partial_channels: K; operations see the first C / K channels of a node.
  """

  space: SearchSpace
  reduction: bool
  auxiliary_skip: bool = False
  partial_channels: int = 1

  @property
  def edges(self) -> list[Edge]:
    """The E edges."""
    return sorted(self.space.graph.edges)

  @property
  def order(self) -> np.ndarray:
    """`[E]`: the places of the edges in DARTS' order."""
    edges = self.space.graph.edges
    return np.array(sorted(range(len(edges)), key=edges.__getitem__))

  @functools.cached_property
  def operations(self) -> dict[str, tuple[int, ...]]:
    """For each operation the edges on which it stands; without `none`."""
    allowed = self.space.allowed_on(CELL_TYPES[self.reduction])
    every = tuple(range(len(self.edges)))
    found = {}
    for o, name in enumerate(self.space.primitives):
      places = every
      if allowed is not None:
        places = tuple(np.flatnonzero(np.asarray(allowed)[self.order, o]).tolist())
      if places and name != 'none':
        found[name] = places
    if self.auxiliary_skip:
      found[AUXILIARY_SKIP] = every
    return found

  @property
  def built_in(self) -> list[str]:
    """The operations that the forms compute."""
    return [name for name in self.operations if is_built_in(name) or name == AUXILIARY_SKIP]

  @property
  def own(self) -> dict[str, tuple[int, ...]]:
    """The operations that are modules of a researcher, each with its edges."""
    return {n: p for n, p in self.operations.items() if n not in self.built_in}

  def groups(self, together: bool) -> list[EdgeGroup]:
    """Returns the cell's edges in groups.

    Args:
      together: whether a group may hold the edges of several nodes. An own operation stands between
        the groups of two nodes.
    """
    together = together and not self.own
    groups = edge_groups.split_edges(self.edges, self.reduction, together)
    return [
      group._replace(some=self._some_of(group), split=self.partial_channels) for group in groups
    ]

  def columns_of(self, group: EdgeGroup) -> dict[str, list[int]]:
    """Returns the edges of a group that have each built-in operation; none has no entry."""
    places = range(len(self.edges))[group.rows]
    found = {name: [p for p in self.operations[name] if p in places] for name in self.built_in}
    return {name: rows for name, rows in found.items() if rows}

  def rows_of(self, name: str, group: EdgeGroup) -> slice:
    """Returns the rows of an operation's arrays that belong to a group.

    Args:
      name: an operation with parameters or batch norms.
      group: some edges of the cell.
    """
    sources = [self.edges[place][0] for place in self.array_rows(name)]
    first, last = group.edges[0][0], group.edges[-1][0]
    start, stop = np.searchsorted(sources, [first, last + 1])
    return slice(int(start), int(stop))

  def param_shapes(self, channels: int) -> dict[str, tuple[_Shape, int]]:
    """Returns the shape and the number of inputs of each parameter of the edges.

    Args:
      channels: C of every node.
    """
    channels, found = channels // self.partial_channels, {}
    for name in filter(is_convolution, self.operations):
      size, lead = int(name[-1]), (len(self.array_rows(name)), _stages(name), channels)
      found[f'{name}_depthwise'] = (*lead, size, size), size * size
      found[f'{name}_pointwise'] = (*lead, channels), channels
    for name in _SKIPS:
      if name in self.operations and self.array_rows(name):
        found[name] = (len(self.array_rows(name)), 1, channels, channels), channels
    return found

  def norm_shapes(self, channels: int) -> dict[str, _Shape]:
    """Returns for each batch norm the shape of its moments: `[n, C]`, or for an input `[C]`.

    Args:
      channels: C of every node.
    """
    shapes: dict[str, _Shape] = {'entry0': (channels,), 'entry1': (channels,)}
    for name in self.built_in:
      if name == 'noise':
        continue
      shape = len(self.array_rows(name)), channels // self.partial_channels
      if is_convolution(name) and _stages(name) == 2:
        shapes[f'{name}_first'] = shape
      if shape[0]:
        shapes[name] = shape
    return shapes

  def array_rows(self, name: str) -> tuple[int, ...]:
    """Returns the edges for which an operation has arrays; for pools the first of each node."""
    name = name.removesuffix('_first')
    places = self.operations[name]
    if name in _SKIPS:
      return tuple(p for p in places if self.reduction and self.edges[p][0] < 2)
    if '_pool_' in name:
      return tuple({self.edges[p][0]: p for p in reversed(places)}.values())[::-1]
    return places

  def row_keys(self, name: str) -> list[int]:
    """Returns for each row of an operation's arrays its edge; for pools the node it leaves."""
    places = self.array_rows(name)
    return [self.edges[p][0] for p in places] if '_pool_' in name else list(places)

  def _some_of(self, group: EdgeGroup) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The operations that stand on a part of a group's edges, each with their places in it."""
    found = self.columns_of(group).items()
    return tuple(
      (name, tuple(p - group.start for p in places))
      for name, places in found
      if len(places) < len(group.edges)
    )


def _stages(name: str) -> int:
  """The number of convolutions of an operation in a row."""
  return 2 if name.startswith('sep') else 1
