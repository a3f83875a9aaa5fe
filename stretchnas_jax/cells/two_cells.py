"""The class `Genotype`: two cells as lists of operations on edges. `genotype` works with it."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

from stretchnas_jax.cells import genotype_checks, genotype_text, nas_bench_cells
from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells.space import CellEdge


@dataclasses.dataclass(frozen=True, init=False)
class Genotype:
  """Two cells; each is its edges, and the nodes whose feature maps it concatenates.

  Edges are `(operation, src, dst)`. They are kept stably sorted by `dst`, and genotypes are equal
  in that form. Nodes 0 and 1 are the inputs of the cell. Other numbers may be skipped, and parallel
  edges are allowed. The order of a concat is the order of the channels.

  Attributes:
    normal: the edges of the normal cell.
    normal_concat: the nodes that the normal cell concatenates.
    reduce: the edges of the reduction cell.
    reduce_concat: the nodes that the reduction cell concatenates.

  Raises:
    ValueError: a cell has no edges, an edge comes from a node without an input, or a concat is
      empty, repeats a node, or names a node without an input.

  Example:
    >>> edges = [('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2)]
    >>> cell = Genotype(normal=edges, normal_concat=[2], reduce=edges, reduce_concat=[2])
    >>> cell.normal[1]
    ('skip_connect', 1, 2)
  """

  normal: tuple[CellEdge, ...]
  normal_concat: tuple[int, ...]
  reduce: tuple[CellEdge, ...]
  reduce_concat: tuple[int, ...]

  def __init__(
    self,
    normal: Iterable[Sequence[Any]],
    normal_concat: Iterable[SupportsIndex],
    reduce: Iterable[Sequence[Any]],
    reduce_concat: Iterable[SupportsIndex],
  ) -> None:
    given = {'normal': (normal, normal_concat), 'reduce': (reduce, reduce_concat)}
    for cell, (edges, concat) in given.items():
      checked = genotype_checks.edges_of(cell, edges)
      object.__setattr__(self, cell, checked)
      nodes = genotype_checks.concat_of(f'{cell}_concat', concat, checked)
      object.__setattr__(self, f'{cell}_concat', nodes)

  def to_dict(self) -> dict[str, list[Any]]:
    """Returns the content of the JSON form: four lists, with edges as `[operation, src, dst]`.

    Example:
      >>> snas.zoo.GENOTYPES['DARTS_V2'].to_dict()['normal'][:2]
      [['sep_conv_3x3', 0, 2], ['sep_conv_3x3', 1, 2]]
    """
    fields = dataclasses.asdict(self)
    return {
      name: [list(item) if isinstance(item, tuple) else item for item in fields[name]]
      for name in genotype_text.FIELDS
    }

  @classmethod
  def from_dict(cls, fields: Any, operations: Sequence[str] = ()) -> 'Genotype':
    """Builds a genotype from the content of its JSON form.

    Args:
      fields: a dict of the four fields of a genotype, and no others.
      operations: names allowed beside the known ones, `space.OPERATIONS`.

    Returns:
      The genotype.

    Raises:
      ValueError: a field is wrong; the message names the fault.

    Example:
      >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
      >>> Genotype.from_dict(cell.to_dict()) == cell
      True
    """
    fields, checked = genotype_text.complete(fields), {}
    for cell in space_lib.CELL_TYPES:
      checked[cell] = genotype_checks.edges_of(cell, fields[cell])
      concat = f'{cell}_concat'
      checked[concat] = genotype_checks.concat_of(concat, fields[concat], checked[cell])
    return _known(cls(**checked), operations)


AnyGenotype = Genotype | nas_bench_cells.Cell
"""The result of a search: of DARTS' spaces two cells, of NAS-Bench-201 one."""


def _known(genotype: Genotype, operations: Sequence[str]) -> Genotype:
  """Returns a genotype; ValueError where one of its operations is unknown."""
  allowed = (*space_lib.OPERATIONS, *operations)
  for op, _, _ in (*genotype.normal, *genotype.reduce):
    if op not in allowed:
      raise ValueError(
        f'the operation {genotype_text.shorten(op)} is unknown; {space_lib.meant(op, allowed)}'
      )
  return genotype
