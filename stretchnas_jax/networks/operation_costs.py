"""The costs of the operations of a search space, and the expected cost of a mixture.

All numbers are read off the modules of the network of a fixed cell, as `sizes` does. So the
expected cost of a mixture that has decided equals the size of the derived network, to the unit.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.genotype import AnyGenotype, Genotype
from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.cells.nas_bench_cells import EDGES, Cell
from stretchnas_jax.cells.space import CELL_TYPES, CellEdge
from stretchnas_jax.cells.topology import TopologyTable
from stretchnas_jax.networks import costs, nas_bench_macro, operations, own_operations
from stretchnas_jax.networks.fixed_cell import FixedCell
from stretchnas_jax.networks.layers import Style
from stretchnas_jax.networks.nas_bench_network import NasBenchCell, NasBenchNetwork
from stretchnas_jax.networks.nas_bench_supernet import NasBenchSupernet
from stretchnas_jax.networks.network import FixedNetwork
from stretchnas_jax.networks.search_network import SearchNetwork
from stretchnas_jax.networks.supernet import Supernet

COSTS = ('macs', 'params')
"""The kinds of cost: multiply-adds per image, and weights."""

_POOL = 'max_pool_3x3'  # it has neither weights nor multiply-adds


class OperationCosts(NamedTuple):
  """The cost of each operation on each edge of each layer, of one kind.

  Attributes:
    base: the cost of a network without any operation: stem, classifier, and all between cells.
    tables: for each cell type the costs `[L, E, O]` of its L layers.
  """

  base: float
  tables: Mapping[str, Float[np.ndarray, 'L E O']]

  def expected(
    self, op_weights: Mapping[str, Float[AnyArray, '*L E O']], edges: Mapping[str, AnyArray]
  ) -> Any:
    """Returns the expected cost of a network, linear in the weights.

    Args:
      op_weights: the weights of operations by cell type. Where they are of another number of layers
        than the network, their mean counts in each layer.
      edges: the probability of each edge `[E]` by cell type.
    """

    def of(cell: str) -> Any:
      weights, table = op_weights[cell], self.tables[cell]
      if weights.ndim == 3 and len(weights) != len(table):
        weights = weights.mean(0)
      return (weights * edges[cell][:, None] * table).sum()

    return self.base + sum(of(cell) for cell in self.tables)


class _Layer(NamedTuple):
  """The sizes of one cell: its type, C, and height and width before and after it."""

  cell: str
  channels: int
  before: tuple[int, int]
  after: tuple[int, int]


def operation_costs(
  net: SearchNetwork, image_shape: tuple[int, ...], kind: str = 'macs'
) -> OperationCosts:
  """Reads off the costs of all operations of a search network, as a fixed cell would have them.

  Args:
    net: the search network; it gives space, channels, depth, stem and own operations.
    image_shape: `(H, W, C)`.
    kind: 'macs' or 'params'.

  Returns:
    The costs.
  """
  if isinstance(net, NasBenchSupernet):
    return _of_nas_bench_201(net, image_shape, kind)
  graph = net.space.graph
  nodes = tuple(range(2, graph.num_nodes))
  edges = [(_POOL, 0, node) for node in nodes]
  fixed = FixedNetwork(
    Genotype(edges, nodes, edges, nodes),
    net.channels,
    net.num_layers,
    net.num_classes,
    net.stem,
    form='plain',
  )
  layers = _layers(fixed, image_shape)
  of = functools.partial(_cost, net, kind)
  tables = {
    cell: np.array(
      [
        [[of(name, layer, src) for name in net.space.primitives] for src, _ in graph.edges]
        for layer in layers
        if layer.cell == cell
      ],
      np.float64,
    ).reshape(-1, len(graph.edges), net.space.num_operations)
    for cell in CELL_TYPES
  }
  return OperationCosts(float(getattr(costs.trace_costs(fixed, image_shape), kind)), tables)


def _of_nas_bench_201(
  net: NasBenchSupernet, image_shape: tuple[int, ...], kind: str
) -> OperationCosts:
  """Reads off the costs in NAS-Bench-201: an operation costs the same on all edges of a stage."""

  def of(module: nn.Module, shape: tuple[int, ...]) -> int:
    return getattr(costs.trace_costs(module, shape), kind)

  alone = lambda name: Cell((name, *['none'] * (len(EDGES) - 1)))
  empty = NasBenchNetwork(alone('none'), net.channels, net.num_layers, net.num_classes)
  stages = []
  for stage in range(nas_bench_macro.NUM_STAGES):
    channels = net.channels * 2**stage
    shape = *(-(-side // 2**stage) for side in image_shape[:2]), channels
    row = [of(NasBenchCell(alone(name), channels), shape) for name in net.space.primitives]
    stages.append([row] * len(net.space.graph.edges))
  table = np.repeat(np.array(stages, np.float64), net.num_layers, axis=0)
  return OperationCosts(float(of(empty, image_shape)), {'normal': table})


def without_noise(cell: AnyGenotype) -> AnyGenotype:
  """Returns a cell of the same cost whose network can be built: noise costs nothing, as a pool."""
  if isinstance(cell, Cell):
    return cell

  def of(edges: tuple[CellEdge, ...]) -> list[CellEdge]:
    return [(_POOL if name == 'noise' else name, src, dst) for name, src, dst in edges]

  return Genotype(of(cell.normal), cell.normal_concat, of(cell.reduce), cell.reduce_concat)


def edge_probabilities(
  table: TopologyTable, graph: CellGraph, k: int | None = None, by: str = 'target'
) -> Callable[[Float[AnyArray, ' E']], Float[Array, ' E']]:
  """Returns a function from merged scores to the probability that each edge is in the cell.

  Args:
    table: the topology table; a score of its scale means that the edge is there.
    graph: the graph.
    k: the number of edges that decoding keeps of a node; their probabilities are in proportion to
      their scores. None: the codes decide.
    by: 'target' for the in-edges of each node, 'source' for its out-edges.
  """
  scale = np.asarray(table.scale)
  factor = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
  ends = np.array([edge[by == 'target'] for edge in graph.edges])
  same_node = (ends[:, None] == ends).astype(np.float32)

  def probabilities(scores: Float[AnyArray, ' E']) -> Float[Array, ' E']:
    found = jnp.asarray(scores * factor)
    if k is None:
      return found
    total = same_node @ found
    return jnp.minimum(1.0, k * found / jnp.where(total > 0, total, 1.0))

  return probabilities


def expected_share(
  found: OperationCosts,
  probabilities: Callable[[Float[AnyArray, ' E']], Float[Array, ' E']],
  uniform_scores: Float[AnyArray, ' E'],
) -> Callable[..., Float[Array, '']]:
  """Returns the expected cost of a mixture, divided by that of a mixture without any preference.

  Args:
    found: the costs.
    probabilities: from `edge_probabilities`.
    uniform_scores: the merged scores without any preference.

  Returns:
    `expected(op_weights, edge_scores) -> scalar`, 1 without any preference.
  """
  operations_of = next(iter(found.tables.values())).shape[-1]
  equal = np.full((len(uniform_scores), operations_of), 1 / operations_of)
  even = np.asarray(probabilities(uniform_scores), np.float64)
  cells = tuple(found.tables)
  reference = found.expected(dict.fromkeys(cells, equal), dict.fromkeys(cells, even))

  def expected(op_weights: Mapping[str, AnyArray], edge_scores: Mapping[str, AnyArray]) -> Any:
    edges = {cell: probabilities(scores) for cell, scores in edge_scores.items()}
    return found.expected(op_weights, edges) / reference

  return expected


def mean_logarithms(*kinds: OperationCosts) -> Callable[..., Float[Array, '']]:
  """Returns SNAS' cost: the logarithm of the expected cost of each edge (Xie et al. 2019).

  It is a mean over kinds of cost and over the layers of a cell type, and a sum over edges and cell
  types. A cost below 1 counts as 1.

  Args:
    *kinds: the costs of each kind.

  Returns:
    `expected(op_weights, edge_scores) -> scalar`; the scores change nothing.
  """

  def expected(op_weights: Mapping[str, AnyArray], edge_scores: Mapping[str, AnyArray]) -> Any:
    del edge_scores
    total = 0.0
    for cell in kinds[0].tables:
      for found in kinds:
        of_edges = (op_weights[cell] * found.tables[cell]).sum(-1)  # [L, E]
        logarithms = jnp.log(jnp.maximum(of_edges, 1.0))
        total += logarithms.sum() / (len(of_edges) * len(kinds))
    return total

  return expected


def _layers(fixed: FixedNetwork, image_shape: tuple[int, ...]) -> list[_Layer]:
  """Returns the sizes of the cells of a network, as they are traced."""
  found = []

  def watch(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
  ) -> Any:
    y = call(*args, **kwargs)
    cell = context.module
    if isinstance(cell, FixedCell) and context.method_name == '__call__':
      found.append(
        _Layer(CELL_TYPES[cell.reduction], cell.channels, args[1].shape[1:3], y.shape[1:3])
      )
    return y

  with nn.intercept_methods(watch):
    costs.count_params(fixed, image_shape)
  return found


def _cost(net: Supernet, kind: str, name: str, layer: _Layer, src: int) -> int:
  """Returns the cost of an operation on an edge of a layer that comes from node `src`."""
  stride = 2 if layer.cell == 'reduce' and src < 2 else 1
  own = (net.operations or {}).get(name)
  side = layer.before if stride == 2 else layer.after
  return getattr(_traced(name, own, layer.channels, stride, side), kind)


class _Alone(nn.Module):
  """An own operation, called as a cell calls it."""

  operation: nn.Module

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C']) -> Float[Array, 'B h w C']:
    return self.operation(x, False)


@functools.lru_cache(maxsize=1024)
def _traced(
  name: str,
  own: Callable[[int, int], nn.Module] | None,
  channels: int,
  stride: int,
  side: tuple[int, int],
) -> costs.Costs:
  """Returns the costs of one operation; one without a module has none."""
  if own is not None:
    module = _Alone(own_operations.build({name: own}, name, channels, stride))
  elif name in operations.OPERATIONS:
    module = operations.OPERATIONS[name](channels, stride, Style())
  else:
    return costs.Costs(0, 0, 0)
  return costs.trace_costs(module, (*side, channels))
