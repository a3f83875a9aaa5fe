"""Writes cells as Graphviz text."""

from stretchnas_jax.cells.genotype import AnyGenotype, Genotype
from stretchnas_jax.cells.nas_bench_cells import EDGES
from stretchnas_jax.cells.search_result import edges_of
from stretchnas_jax.cells.space import CELL_TYPES
from stretchnas_jax.machine import output


def dot(genotype: AnyGenotype) -> str:
  """Returns both cells as one graph, for `dot -Tsvg`; of NAS-Bench-201 its one cell."""
  lines = ['digraph cells {', '  rankdir=LR;', '  node [shape=box, style=rounded];']
  is_pair = isinstance(genotype, Genotype)
  names = _INPUTS if is_pair else {0: 'input'}
  for cell in CELL_TYPES if is_pair else CELL_TYPES[:1]:
    edges, last = edges_of(genotype, cell), getattr(genotype, f'{cell}_concat', EDGES[-1][1:])
    nodes = sorted({*names, *last, *(node for _, *ends in edges for node in ends)})
    lines += [f'  subgraph cluster_{cell} {{', f'    label="{cell}";']
    lines += [f'    {cell}_{node} [label="{names.get(node, node)}"];' for node in nodes]
    lines.append(f'    {cell}_out [label="output"];')
    for op, src, dst in edges:
      lines.append(f'    {cell}_{src} -> {cell}_{dst} [label="{_quoted(op)}"];')
    lines += [f'    {cell}_{node} -> {cell}_out [style=dashed];' for node in last]
    lines.append('  }')
  return '\n'.join([*lines, '}', ''])


_INPUTS = {0: 'cell before the last', 1: 'last cell'}


def _quoted(text: str) -> str:
  """Returns a text for a pair of quotation marks."""
  return output.printable(text).replace('\\', '\\\\').replace('"', '\\"')
