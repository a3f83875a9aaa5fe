"""The cell that a search has found, as its run has written it."""

from typing import Any

from stretchnas_jax.cells import genotype
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.space import CELL_TYPES, CellEdge


def cell_of(fields: Any) -> AnyGenotype:
  """Builds a cell that a run has written, whatever the names of its operations.

  They may be your own, or `noise`, which only a search has. For a text from elsewhere take
  `genotype.from_fields`, which refuses unknown names.

  Args:
    fields: of `Genotype.to_dict`, or of a cell of NAS-Bench-201.

  Raises:
    ValueError: a field is wrong; the message names the fault.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> cell_of(cell.to_dict()) == cell
    True
  """
  lists = [fields.get(cell) for cell in CELL_TYPES] if isinstance(fields, dict) else []
  edges = [edge for one in lists if isinstance(one, list | tuple) for edge in one]
  firsts = [edge[0] for edge in edges if isinstance(edge, list | tuple) and edge]
  return genotype.from_fields(fields, [name for name in firsts if isinstance(name, str)])


def edges_of(found: AnyGenotype, cell: str) -> tuple[CellEdge, ...]:
  """Returns the edges of a cell type; a cell of NAS-Bench-201 has no reduction cell.

  Args:
    found: the result of a search.
    cell: the cell type.
  """
  return tuple(getattr(found, cell, ()))
