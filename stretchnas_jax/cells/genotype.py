"""Genotypes, the results of searches: two cells as lists of operations on edges."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Bool, Float

from stretchnas_jax.cells import decoding as decoding_lib
from stretchnas_jax.cells import genotype_reading, genotype_text, nas_bench_cells, topology
from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.cell_shape import depth, width
from stretchnas_jax.cells.two_cells import AnyGenotype, Genotype

__all__ = [
  'SHORT_NAMES',
  'AnyGenotype',
  'Genotype',
  'Reading',
  'derive',
  'from_darts_text',
  'from_fields',
  'from_json',
  'read',
  'read_form',
  'summary',
  'to_darts_text',
  'to_json',
]


def derive(
  space: space_lib.SearchSpace,
  table: topology.TopologyTable,
  strength: Mapping[str, Float[AnyArray, 'E O']],
  beta: Mapping[str, Float[AnyArray, 'R K']],
  *,
  decoding: decoding_lib.Decoding | Mapping[str, decoding_lib.Decoding] | None = None,
  edge_scores: Mapping[str, Float[AnyArray, ' E']] | None = None,
  allowed: Mapping[str, Bool[AnyArray, 'E O']] | None = None,
) -> tuple[AnyGenotype, tuple[str, ...]]:
  """Decodes the architecture parameters of a search.

  Args:
    space: the search space.
    table: the topology table of both cell types; one without rows means DARTS' top-2 rule.
    strength: for each cell type the strengths `[E, O]`: `Relaxation.strength` of alpha.
    beta: for each cell type the topology logits `[R, K]`.
    decoding: the rule, or one for each cell type; None for the most probable codes, or DARTS' rule
      without rows.
    edge_scores: for each cell type the merged scores `[E]`. None: those of beta.
    allowed: for each cell type which operations an edge may have, beside `space.allowed`.

  Returns:
    The genotype, of NAS-Bench-201 a `nas_bench_201.Cell`; and a sentence for each thing that was
    repaired or pruned.

  Raises:
    ValueError: an array has a wrong shape or a value that is not finite.

  Example:
    >>> space = snas.darts_space(1)
    >>> table = snas.topology.output_subsets(space.graph)
    >>> strength = dict.fromkeys(('normal', 'reduce'), np.eye(2, 7))
    >>> beta = dict.fromkeys(('normal', 'reduce'), np.array([[0.0, 1.0], [0.0, 1.0]]))
    >>> cell, notes = derive(space, table, strength, beta)
    >>> cell.normal
    (('max_pool_3x3', 0, 2), ('avg_pool_3x3', 1, 2))
  """
  fields, notes = {}, []
  for cell in space.cell_types:
    found = decoding_lib.derive_cell(
      space,
      table,
      strength[cell],
      beta[cell],
      decoding=decoding[cell] if isinstance(decoding, Mapping) else decoding,
      edge_scores=None if edge_scores is None else edge_scores[cell],
      allowed=space.allowed_on(cell, None if allowed is None else allowed[cell]),
    )
    fields[cell], fields[f'{cell}_concat'], remarks = found
    notes += [f'{cell} cell: {remark}' for remark in remarks]
  if space.graph.output == 'last':
    found, remarks = nas_bench_cells.decoded(fields['normal'])
    return found, (*notes, *remarks)
  return Genotype(**fields), tuple(notes)


def from_fields(fields: Any, operations: Sequence[str] = ()) -> AnyGenotype:
  """Builds the result of a search from its JSON form; ValueError names a wrong field.

  Args:
    fields: of `Genotype.to_dict`, or of a cell of NAS-Bench-201.
    operations: as for `Genotype.from_dict`.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V1']
    >>> from_fields(cell.to_dict()) == cell
    True
  """
  if isinstance(fields, dict) and nas_bench_cells.KEY in fields:
    return nas_bench_cells.from_dict(fields)
  return Genotype.from_dict(fields, operations)


def from_darts_text(text: str, operations: Sequence[str] = ()) -> Genotype:
  """Parses the `Genotype(normal=[('sep_conv_3x3', 1), ...], ...)` that papers and peers print.

  The text is never evaluated.

  Args:
    text: entry k of a cell belongs to node k // 2 + 2.
    operations: names allowed beside the known ones, `space.OPERATIONS`.

  Returns:
    The genotype.

  Raises:
    ValueError: the text is not a genotype.

  Example:
    >>> part = "[('sep_conv_3x3', 0), ('skip_connect', 1)]"
    >>> text = f'Genotype(normal={part}, normal_concat=[2], reduce={part}, reduce_concat=[2])'
    >>> from_darts_text(text).normal
    (('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2))
  """
  return Genotype.from_dict(genotype_text.read_darts(text), operations)


def to_darts_text(genotype: Genotype) -> str:
  """Returns the form that papers and peers print, on one line.

  Raises:
    ValueError: the nodes of a cell are not 2 .. S+1 with exactly two inputs each.

  Example:
    >>> to_darts_text(snas.zoo.GENOTYPES['DARTS_V2'])[:38]
    "Genotype(normal=[('sep_conv_3x3', 0), "
  """
  return genotype_text.write_darts(vars(genotype))


def from_json(text: str, operations: Sequence[str] = ()) -> Genotype:
  """Parses the native form; edges are `[operation, src, dst]`.

  Args:
    text: a JSON object with exactly normal, normal_concat, reduce, reduce_concat.
    operations: names allowed beside the known ones, `space.OPERATIONS`.

  Returns:
    The genotype.

  Raises:
    ValueError: the text is wrong; the message names the fault.

  Example:
    >>> from_json('{"normal": []}')
    Traceback (most recent call last):
    ValueError: normal_concat is missing; ...
  """
  return Genotype.from_dict(genotype_text.read_json(text), operations)


class Reading(NamedTuple):
  """A genotype that was read from a text.

  Attributes:
    genotype: the genotype.
    form: the name of the form that the text has.
    notes: sentences on what that form leaves open, or says beyond a genotype.
  """

  genotype: AnyGenotype
  form: str
  notes: tuple[str, ...]


def read(text: str, name: str | None = None, operations: Sequence[str] = ()) -> AnyGenotype:
  """Returns the genotype of a text in any form that programs print.

  Args:
    text: the text.
    name: as for `read_form`, which says more.
    operations: names allowed beside the known ones, `space.OPERATIONS`.

  Raises:
    ValueError: the text holds no genotype, or several of different names.

  Example:
    >>> part = "[('sep_conv_3x3', 0), ('skip_connect', 1)]"
    >>> text = f'Genotype(normal={part}, normal_concat=[2], reduce={part}, reduce_concat=[2])'
    >>> read('the best one: ' + text.replace("'", '"')).reduce
    (('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2))
  """
  return read_form(text, name, operations).genotype


def read_form(text: str, name: str | None = None, operations: Sequence[str] = ()) -> Reading:
  """Reads a genotype in any form that programs print, and says which form it is.

  The forms are those of DARTS, PC-DARTS, P-DARTS, pt.darts, SNAS, FairDARTS, AutoDL-Projects, NNI,
  NASLib, NAS-Bench-201 and -301, and the native JSON. The text may have comments, quotation marks
  of any kind, and other text around it. Of a log, the last one is read. Nothing is ever evaluated.

  Args:
    text: the text.
    name: of one cell, where the text has several, as a file `genotypes.py` has.
    operations: names allowed beside the known ones, `space.OPERATIONS`.

  Returns:
    The genotype, the name of the form, and notes.

  Raises:
    ValueError: the text holds no genotype, or several of different names.

  Example:
    >>> part = "[('sep_conv_3x3', 0), ('skip_connect', 1)]"
    >>> text = f'Genotype(normal={part}, normal_concat=[2], reduce={part}, reduce_concat=[2])'
    >>> read_form(text).form
    "DARTS' form"
  """
  if isinstance(text, str) and (cell := nas_bench_cells.last_in(text)):
    return Reading(cell, 'NAS-Bench-201', ())
  found = genotype_reading.find(text, name, operations)
  return Reading(Genotype.from_dict(found.fields, operations), found.form, found.notes)


def to_json(genotype: AnyGenotype) -> str:
  """Returns the native form, for any number of edges, with an edge a line.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> from_json(to_json(cell)) == cell
    True
  """
  if isinstance(genotype, nas_bench_cells.Cell):
    return json.dumps(genotype.to_dict()) + '\n'
  return genotype_text.write_json(vars(genotype))


def summary(genotype: AnyGenotype) -> str:
  """Returns a line of a log for each cell: terms of its nodes, depth and width, or its text.

  Example:
    >>> print(summary(snas.zoo.GENOTYPES['DARTS_V2']).split('  out')[0])
    normal  2=sep3(0)+sep3(1)  3=sep3(0)+sep3(1)  4=sep3(1)+skip(0)  5=skip(0)+dil3(2)
  """
  if isinstance(genotype, nas_bench_cells.Cell):
    return f'cell    {nas_bench_cells.to_text(genotype)}'
  lines = []
  for cell in space_lib.CELL_TYPES:
    edges, concat = getattr(genotype, cell), getattr(genotype, f'{cell}_concat')
    nodes = []
    for node in dict.fromkeys(dst for _, _, dst in edges):
      terms = [f'{SHORT_NAMES.get(op, op)}({src})' for op, src, dst in edges if dst == node]
      nodes.append(f'{node}={"+".join(terms)}')
    lines.append(
      f'{cell:6}  {"  ".join(nodes)}  out={",".join(map(str, concat))}'
      f'  depth {depth(edges)}  width {width(edges, concat):.3g}'
    )
  return '\n'.join(lines)


SHORT_NAMES = {
  'max_pool_3x3': 'max', 'avg_pool_3x3': 'avg', 'skip_connect': 'skip', 'sep_conv_3x3': 'sep3',
  'sep_conv_5x5': 'sep5', 'sep_conv_7x7': 'sep7', 'dil_conv_3x3': 'dil3', 'dil_conv_5x5': 'dil5',
  'conv_7x1_1x7': 'conv7', 'nor_conv_1x1': 'nor1', 'nor_conv_3x3': 'nor3',
}  # fmt: skip
