"""Forms that give each choice of a cell a key of its own: NNI's, and NAS-Bench-301's."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stretchnas_jax.cells.genotype_calls import Name
from stretchnas_jax.cells.genotype_forms import CellEdges, Cells, finished, number
from stretchnas_jax.cells.genotype_text import shorten
from stretchnas_jax.cells.space import CELL_TYPES, OPERATIONS

_NNI = re.compile(r'(?:.{0,99}[/.])?(normal|reduce)/(op|input)_(\d{1,4})_(\d{1,4})', re.DOTALL)
_NNI_OLD = re.compile(r'(normal|reduce)_n(\d{1,4})_(p\d{1,4}|switch)')
_BENCH_301 = re.compile(r'(?:.{0,99}:)?(edge|inputs_node)_(normal|reduce)_(\d{1,4})', re.DOTALL)
_BENCH_301_LINE = re.compile(
  r'^[^\S\n]{0,20}([\w:]{0,99}(?:edge|inputs_node)_(?:normal|reduce)_\d{1,4}), Value: '
  r'[\'"]?([\w]{1,40})',
  re.MULTILINE,
)

# The operations in the order of NNI's older search, which may write them as truth values.
_NNI_OLD_ORDER = OPERATIONS[:7]

# The edges of a DARTS cell of four nodes, as NAS-Bench-301 numbers them.
_EDGES = [(src, dst) for dst in range(2, 6) for src in range(dst)]


def reader_of(keys: Sequence[Any]) -> Callable[[Mapping, Sequence[str]], Cells] | None:
  """Returns the function that reads a dict with such keys, or None for other keys.

  Args:
    keys: all keys of the dict.
  """
  texts = [key for key in keys if isinstance(key, str)][:1000]
  forms = ((_NNI, _read_nni), (_NNI_OLD, _read_old_nni), (_BENCH_301, _read_bench_301))
  return next((read for form, read in forms if any(map(form.fullmatch, texts))), None)


def from_lines(text: str) -> dict[str, str]:
  """Returns the keys and values of a printed configuration of NAS-Bench-301, a key a line."""
  return dict(_BENCH_301_LINE.findall(text))


def _matches(form: re.Pattern[str], mapping: Mapping) -> list[tuple[re.Match[str], Any]]:
  """Returns the keys of a form as matches, with their values."""
  found = [(form.fullmatch(key), value) for key, value in mapping.items() if isinstance(key, str)]
  return [(match, value) for match, value in found if match]


def _others(form: re.Pattern[str], mapping: Mapping) -> list[str]:
  """Returns a note on the keys that are none of a form."""
  more = [shorten(key) for key in mapping if not (isinstance(key, str) and form.fullmatch(key))]
  return [f'left out: {", ".join(more[:8])}'] if more else []


def _cells(
  edges: Mapping[str, list[tuple[Any, int, int]]],
  form: str,
  operations: Sequence[str],
  notes: Sequence[str],
) -> Cells:
  """Returns the cells of a form that does not say the concatenated nodes."""
  cells = {cell: CellEdges(sorted(edges[cell], key=lambda e: e[2]), form) for cell in CELL_TYPES}
  if empty := [cell for cell in CELL_TYPES if not edges[cell]]:
    raise ValueError(f'{form} has keys of one cell only; those of {empty[0]} are missing')
  return finished(cells, dict.fromkeys(CELL_TYPES), operations, notes)


def _read_nni(mapping: Mapping, operations: Sequence[str]) -> Cells:
  """Reads `{'normal/op_2_0': 'sep_conv_3x3', 'normal/input_2_0': 0, ...}`."""
  values = {
    (match[1], match[2], int(match[3]), int(match[4])): value
    for match, value in _matches(_NNI, mapping)
  }
  edges: dict[str, list] = {cell: [] for cell in CELL_TYPES}
  for cell, kind, node, place in sorted(values):
    other = 'input' if kind == 'op' else 'op'
    if (cell, other, node, place) not in values:
      raise ValueError(f'{cell}/{other}_{node}_{place} is missing')
    if kind == 'op':
      src = _only(values[cell, 'input', node, place])
      edges[cell].append((_only(values[cell, kind, node, place]), number(src, f'in {cell}'), node))
  return _cells(edges, "NNI's form", operations, _others(_NNI, mapping))


def _read_old_nni(mapping: Mapping, operations: Sequence[str]) -> Cells:
  """Reads `{'normal_n2_p0': 'sepconv3x3', 'normal_n2_switch': [0, 1], ...}`."""
  edges: dict[str, list] = {cell: [] for cell in CELL_TYPES}
  switches = {
    (match[1], int(match[2])): value
    for match, value in _matches(_NNI_OLD, mapping)
    if match[3] == 'switch'
  }
  for match, value in _matches(_NNI_OLD, mapping):
    cell, node = match[1], int(match[2])
    if match[3] == 'switch':
      continue
    src = int(match[3][1:])
    chosen = switches.get((cell, node))
    if chosen is None or src in _switched(f'{match[0]}', chosen):
      edges[cell].append((_chosen(match[0], value), src, node))
  return _cells(edges, "NNI's older form", operations, _others(_NNI_OLD, mapping))


def _switched(key: str, value: Any) -> list[int]:
  """Returns the inputs that a switch of NNI's older form chooses."""
  values = value if isinstance(value, list | tuple) else [value]
  if values and all(isinstance(chosen, bool) for chosen in values):
    return [i for i, chosen in enumerate(values) if chosen]
  found = []
  for chosen in values:
    text = chosen.text if isinstance(chosen, Name) else chosen
    is_key = isinstance(text, str) and _NNI_OLD.fullmatch(text)
    found.append(number(text.rpartition('_p')[2] if is_key else chosen, f'in the switch of {key}'))
  return found


def _chosen(key: str, value: Any) -> Any:
  """Returns the operation that a choice of NNI's older form names, in any of its three ways."""
  if isinstance(value, list | tuple) and value and all(isinstance(v, bool) for v in value):
    if len(value) != len(_NNI_OLD_ORDER) or sum(value) != 1:
      raise ValueError(f'{key} is {shorten(value)}; one of {len(_NNI_OLD_ORDER)} must be true')
    return _NNI_OLD_ORDER[list(value).index(True)]
  return _only(value)


def _only(value: Any) -> Any:
  """Returns a value, or the one value of a list."""
  return value[0] if isinstance(value, list) and len(value) == 1 else value


def _read_bench_301(mapping: Mapping, operations: Sequence[str]) -> Cells:
  """Reads `{'...:edge_normal_0': 'sep_conv_3x3', '...:inputs_node_normal_3': '0_1', ...}`."""
  values: dict[tuple[str, str, int], Any] = {
    (m[2], m[1], int(m[3])): value for m, value in _matches(_BENCH_301, mapping)
  }
  edges: dict[str, list] = {cell: [] for cell in CELL_TYPES}
  for cell in CELL_TYPES:
    for node in range(2, 6):
      chosen = values.get((cell, 'inputs_node', node), '0_1' if node == 2 else None)
      text = chosen.text if isinstance(chosen, Name) else chosen
      if not isinstance(text, str) or not re.fullmatch(r'\d_\d', text, re.ASCII):
        raise ValueError(
          f'inputs_node_{cell}_{node} is {shorten(text)}; it must be two inputs such as 0_1'
        )
      for src in map(int, text.split('_')):
        place = _EDGES.index((src, node)) if (src, node) in _EDGES else -1
        if (cell, 'edge', place) not in values:
          raise ValueError(f'the operation of the edge from {src} to {node} of {cell} is missing')
        edges[cell].append((values[cell, 'edge', place], src, node))
  concats = dict.fromkeys(CELL_TYPES, list(range(2, 6)))  # the same in all its cells
  form = "NAS-Bench-301's form"
  cells = {cell: CellEdges(edges[cell], form) for cell in CELL_TYPES}
  return finished(cells, concats, operations, _others(_BENCH_301, mapping))
