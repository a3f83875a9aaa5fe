"""Writes cells as Graphviz text."""

from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.cells.space import CELL_TYPES
from stretchnas_jax.machine import output


def dot(genotype: Genotype) -> str:
  """Returns both cells as one graph, for `dot -Tsvg`."""
  lines = ['digraph cells {', '  rankdir=LR;', '  node [shape=box, style=rounded];']
  for cell in CELL_TYPES:
    edges, concat = getattr(genotype, cell), getattr(genotype, f'{cell}_concat')
    nodes = sorted({0, 1, *(dst for _, _, dst in edges)})
    lines += [f'  subgraph cluster_{cell} {{', f'    label="{cell}";']
    lines += [f'    {cell}_{node} [label="{_NAMES.get(node, node)}"];' for node in nodes]
    lines.append(f'    {cell}_out [label="output"];')
    for op, src, dst in edges:
      lines.append(f'    {cell}_{src} -> {cell}_{dst} [label="{_quoted(op)}"];')
    lines += [f'    {cell}_{node} -> {cell}_out [style=dashed];' for node in concat]
    lines.append('  }')
  return '\n'.join([*lines, '}', ''])


_NAMES = {0: 'cell before the last', 1: 'last cell'}


def _quoted(text: str) -> str:
  """Returns a text for a pair of quotation marks."""
  return output.printable(text).replace('\\', '\\\\').replace('"', '\\"')
