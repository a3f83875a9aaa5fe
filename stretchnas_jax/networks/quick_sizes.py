"""Sizes of many networks that differ in their cells alone: exact, and after a few traces.

Every listed edge of a cell is built, wherever it leads. So the cost of a network is a part without
edges, and the cost of each of its edges. A cell brings its inputs to its own width by 1x1
convolutions, so the part without edges grows evenly with the number of nodes that cells
concatenate. All numbers are read off real networks.
"""

from collections.abc import Iterable, Sequence

from stretchnas_jax.cells.genotype import AnyGenotype, Genotype
from stretchnas_jax.cells.nas_bench_cells import EDGES, Cell
from stretchnas_jax.cells.space import CELL_TYPES, CellEdge
from stretchnas_jax.networks import costs, sizes
from stretchnas_jax.networks.costs import Costs
from stretchnas_jax.networks.nas_bench_network import NasBenchNetwork
from stretchnas_jax.networks.network import FixedNetwork
from stretchnas_jax.networks.own_operations import OwnOperations

_SKIP = 'skip_connect'

_Kind = tuple[str, str, bool]  # cell type, operation, whether the edge comes from an input


def measure_many(
  genotypes: Sequence[AnyGenotype],
  channels: int,
  num_layers: int,
  num_classes: int,
  stem: str = 'cifar',
  image_shape: tuple[int, ...] | list[int] | None = None,
  operations: OwnOperations | None = None,
) -> list[sizes.Sizes]:
  """Returns the sizes of networks without auxiliary head, equal to those of `sizes.measure`.

  Args:
    genotypes: the cells, all of them of DARTS' form or of NAS-Bench-201.
    channels: C of the first cells.
    num_layers: the number of cells, in NAS-Bench-201 of a stage.
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'.
    image_shape: `(H, W, C)`; by default the usual one of the stem.
    operations: a researcher's own operations, as for `FixedNetwork`.
  """
  shape = tuple(sizes.IMAGE_SHAPES[stem] if image_shape is None else image_shape)
  bench = [one for one in genotypes if isinstance(one, Cell)]
  if bench:
    return _of_nas_bench_201(bench, channels, num_layers, num_classes, shape)
  return _of_darts(
    [one for one in genotypes if isinstance(one, Genotype)],
    channels, num_layers, num_classes, stem, shape, operations,
  )  # fmt: skip


def _of_nas_bench_201(
  cells: Sequence[Cell],
  channels: int,
  num_layers: int,
  num_classes: int,
  image_shape: tuple[int, ...],
) -> list[sizes.Sizes]:
  """Returns the sizes of cells of NAS-Bench-201: an operation costs the same on every edge.

  It costs the same in all cells of a stage too, so that networks of one cell a stage are enough.
  """

  def trace(operation: str, depth: int = 1) -> Costs:
    probe = Cell((operation, *['none'] * (len(EDGES) - 1)))
    return costs.trace_costs(NasBenchNetwork(probe, channels, depth, num_classes), image_shape)

  one = trace('none')
  base = costs.added(one, costs.added(trace('none', 2), one, -1), num_layers - 1)
  names = {name for cell in cells for name in cell.operations}
  units = {name: costs.added(trace(name), one, -1) for name in names}
  found = []
  for cell in cells:
    total = base
    for name in cell.operations:
      total = costs.added(total, units[name], num_layers)
    found.append(sizes.Sizes(total.params, total.macs, total.macs + total.further))
  return found


def _of_darts(
  genotypes: Sequence[Genotype],
  channels: int,
  num_layers: int,
  num_classes: int,
  stem: str,
  shape: tuple[int, ...],
  operations: OwnOperations | None,
) -> list[sizes.Sizes]:
  """Returns the sizes of cells of DARTS' form."""

  def trace(genotype: Genotype) -> tuple[Costs, dict[_Kind, Costs]]:
    """Returns the cost of the part without edges, and that of an edge of each kind."""
    net = FixedNetwork(
      genotype, channels, num_layers, num_classes, stem, operations=operations, form='plain'
    )
    total, found = costs.trace_edges(net, shape)
    kinds = {}
    for (reduction, place), cost in found.items():
      cell = CELL_TYPES[reduction]
      total = costs.added(total, cost, -1)
      kinds[_kind(cell, getattr(genotype, cell)[place])] = cost
    return total, kinds

  units = trace(_probe(_kinds(genotypes)))[1]
  base, wider, deeper = (trace(_skips(*widths))[0] for widths in ((1, 1), (2, 1), (1, 2)))
  slopes = costs.added(wider, base, -1), costs.added(deeper, base, -1)
  return [_sum(genotype, base, slopes, units) for genotype in genotypes]


def _sum(
  genotype: Genotype, base: Costs, slopes: tuple[Costs, Costs], units: dict[_Kind, Costs]
) -> sizes.Sizes:
  total = costs.added(base, slopes[0], len(genotype.normal_concat) - 1)
  total = costs.added(total, slopes[1], len(genotype.reduce_concat) - 1)
  for kind in _kinds([genotype]):
    # In a network without cells of this type an edge costs nothing.
    total = costs.added(total, units.get(kind, Costs(0, 0, 0)))
  return sizes.Sizes(total.params, total.macs, total.macs + total.further)


def _kinds(genotypes: Iterable[Genotype]) -> list[_Kind]:
  """Returns the kind of each edge of all cells."""
  return [
    _kind(cell, edge)
    for genotype in genotypes
    for cell in CELL_TYPES
    for edge in getattr(genotype, cell)
  ]


def _kind(cell: str, edge: CellEdge) -> _Kind:
  """Returns the kind of an edge; only in a reduction cell its source matters, for the stride."""
  op, src, _ = edge
  return cell, op, cell == 'reduce' and src < 2


def _probe(kinds: Iterable[_Kind]) -> Genotype:
  """Returns cells that have an edge of each kind."""
  edges: dict[str, list[CellEdge]] = {cell: [(_SKIP, 0, 2)] for cell in CELL_TYPES}
  for cell, op, from_input in sorted(set(kinds)):
    edges[cell].append((op, 0, 2) if from_input else (op, 2, 3))
  return _genotype(edges['normal'], edges['reduce'])


def _skips(normal: int, reduce: int) -> Genotype:
  """Returns cells of so many nodes, each with a skip connection from the first input."""
  return _genotype(*([(_SKIP, 0, node + 2) for node in range(n)] for n in (normal, reduce)))


def _genotype(normal: Sequence[CellEdge], reduce: Sequence[CellEdge]) -> Genotype:
  """Returns two cells that concatenate all their nodes."""
  nodes = [sorted({dst for _, _, dst in edges}) for edges in (normal, reduce)]
  return Genotype(normal, nodes[0], reduce, nodes[1])
