"""The scores of a search for its page: graphs, heat maps, and the numbers that the script shows."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from stretchnas_jax.cells import choices, genotype, search_course
from stretchnas_jax.cells.graph import Edge
from stretchnas_jax.cells.search_course import Epoch
from stretchnas_jax.cells.space import CELL_TYPES
from stretchnas_jax.runs.history import History
from stretchnas_jax.views import graph_picture, heat_map, page

_LONGEST = 10  # letters of an operation's name on an edge
_MOST_CODES = 128  # columns of a heat map
_CODE_WIDTH = 12
_PLAIN_WIDTH = 1.6  # pixels of an edge whose score is not known


def graphs(history: History, course: Sequence[Epoch]) -> Iterator[tuple[str, str, str]]:
  """Yields name, drawing and words of each cell after the last epoch.

  Args:
    history: of the search.
    course: the facts about its epochs.
  """
  for cell in _cells(history):
    edges = _edges(history, cell)
    labels = {_label(ops) for one in history.genotypes for ops in _kept(one, cell).values()}
    letters = max(map(len, labels), default=0) + 2
    kept, ties = _kept(history.genotypes[-1], cell), _ties(course[-1], cell, edges)
    shades = _shades(history, cell)
    looks = [
      graph_picture.Look(
        _label(kept.get(edge, ())),
        _PLAIN_WIDTH if shades is None else 1 + (graph_picture.WIDEST - 1) * shades[-1][e],
        e in ties,
      )
      for e, edge in enumerate(edges)
    ]
    inputs = min(dst for _, dst in edges)
    drawing = graph_picture.svg(cell, edges, looks, letters, inputs)
    yield cell, drawing, words_of(history.genotypes[-1], cell)


def heat_maps(history: History) -> list[str]:
  """Returns the heat maps of operation weights and codes after the last epoch."""
  facts, parts, codes = history.facts, [], []
  if facts is None or not history.op_weights:
    return []
  for cell in _cells(history):
    weights, rows = _weights(history, cell), [f'{src}→{dst}' for src, dst in facts.edges]
    top = float(weights.max()) or 1.0
    chosen = set(_chosen(history, cell, -1))
    count = len(facts.primitives)
    kept = [[count * e + o in chosen for o in range(count)] for e in range(len(rows))]
    drawing = heat_map.svg(
      f'alpha-{cell}',
      f'Operation weights of the {cell} cell: edges by operations',
      rows,
      heat_map.short([genotype.SHORT_NAMES.get(op, op) for op in facts.primitives], 6),
      (weights[-1] / top).tolist(),
      kept,
    )
    caption = f'Operation weights (alpha) of the {cell} cell. The strongest is {top:.3g}; '
    parts.append(page.figure(drawing, f'{caption}frames are the decoded operations.', scrolls=True))
    codes.append(_code_map(history, cell))
  return [page.grid(parts), *codes]


def for_script(history: History, course: Sequence[Epoch]) -> dict[str, Any]:
  """Returns the numbers of all epochs: bytes as hexadecimal digits, and indices.

  Args:
    history: of the search.
    course: the facts about its epochs.
  """
  labels = ['']
  cells = {}
  for cell in _cells(history):
    edges, shades = _edges(history, cell), _shades(history, cell)
    weights = _weights(history, cell) if history.op_weights else None
    codes, best = _codes(history, cell)
    kept = []
    for one in history.genotypes:
      found = [_label(_kept(one, cell).get(edge, ())) for edge in edges]
      labels += [name for name in dict.fromkeys(found) if name not in labels]
      kept.append([labels.index(name) for name in found])
    cells[cell] = {
      'kept': kept,
      'ties': [_ties(epoch, cell, edges) for epoch in course],
      'scores': [] if shades is None else [_hex(row) for row in shades],
      'alpha': [] if weights is None else [_hex(row.ravel() / weights.max()) for row in weights],
      'chosen': [_chosen(history, cell, i) for i in range(len(course))],
      'beta': [_hex(row) for row in codes],
      'codes': best,
      'texts': [words_of(one, cell) for one in history.genotypes],
    }
  return {
    'epochs': [int(epoch) for epoch in history.epochs],
    'lines': [_line(course, i) for i in range(len(course))],
    'labels': labels,
    'widest': graph_picture.WIDEST,
    'cells': cells,
  }


# ---- cells ---------------------------------------------------------------------------------------


def _cells(history: History) -> list[str]:
  """Returns the cell types that have edges in some epoch."""
  return [cell for cell in CELL_TYPES if any(one.get(cell) for one in history.genotypes)]


def _edges(history: History, cell: str) -> list[Edge]:
  """Returns all edges that a cell may have; where these are not known, those that it had."""
  if history.facts is not None:
    return list(history.facts.edges)
  found = {edge for one in history.genotypes for edge in _kept(one, cell)}
  return sorted(found, key=lambda edge: edge[::-1])


def _kept(one: dict, cell: str) -> dict[Edge, tuple[str, ...]]:
  found: dict[Edge, tuple[str, ...]] = {}
  for op, src, dst in one.get(cell) or ():
    if op != 'none':
      found[int(src), int(dst)] = (*found.get((int(src), int(dst)), ()), str(op))
  return found


def _names(history: History) -> list[str]:
  if history.facts is not None:
    return list(history.facts.primitives)
  return sorted({str(op) for one in history.genotypes for c in CELL_TYPES
                 for op, *_ in one.get(c) or ()}) or ['none']  # fmt: skip


def short_names(history: History) -> str:
  """Returns the short names of operations with the long ones: 'sep3 sep_conv_3x3, ...'."""
  return ', '.join(f'{_short(op)} {op}' for op in _names(history) if _short(op) != op) or 'none'


def _short(op: str) -> str:
  return genotype.SHORT_NAMES.get(op, op)[:_LONGEST]


def labels_of(one: dict, cell: str) -> dict[Edge, str]:
  """Returns the short names of the operations on each edge of a cell.

  Args:
    one: as `Genotype.to_dict` has it.
    cell: the cell type.
  """
  return {edge: _label(ops) for edge, ops in _kept(one, cell).items()}


def _label(ops: Sequence[str]) -> str:
  return '+'.join(map(_short, ops))


def words_of(one: dict, cell: str) -> str:
  """Returns a cell in words: the terms of each of its nodes.

  Args:
    one: as `Genotype.to_dict` has it.
    cell: the cell type.
  """
  nodes: dict[int, list[str]] = {}
  for (src, dst), ops in _kept(one, cell).items():
    nodes.setdefault(dst, []).append(f'{_label(ops)}({src})')
  return '; '.join(f'node {dst} = {" + ".join(terms)}' for dst, terms in sorted(nodes.items()))


def _line(course: Sequence[Epoch], i: int) -> str:
  """Returns the sentence about one epoch."""
  epoch = course[i]
  words = []
  if epoch.accuracy is not None:
    words.append(f'validation accuracy {epoch.accuracy:.1%}')
  if epoch.judgement is not None:
    words.append(f'{epoch.judgement.decided:.0%} of the choices decided')
  if i:
    changed = search_course.changes(course[i - 1].cell, epoch.cell)
    words.append(f'{len(changed)} edges changed' if changed else 'no edge changed')
  return '; '.join(words)


def _ties(epoch: Epoch, cell: str, edges: Sequence[Edge]) -> list[int]:
  """Returns the edges of a cell whose operation is a near tie."""
  if epoch.judgement is None:
    return []
  places = {
    choice.place
    for choice in epoch.judgement.of(choices.OPERATION)
    if choice.cell == cell and choice.tied
  }
  return [e for e, (src, dst) in enumerate(edges) if f'{src}->{dst}' in places]


# ---- scores --------------------------------------------------------------------------------------


def _weights(history: History, cell: str) -> Float[np.ndarray, 'n E O']:
  weights = [np.asarray(one, float) for one in history.op_weights[cell]]
  return np.stack([one.mean(0) if one.ndim == 3 else one for one in weights])


def _shades(history: History, cell: str) -> list[list[float]] | None:
  """Returns the scores of edges, with 1 for the largest of all epochs; None where unknown."""
  if cell not in history.edge_scores:
    return None
  scores = np.clip(np.asarray(history.edge_scores[cell], float), 0, None)
  return (scores / (scores.max() or 1.0)).tolist()


def _chosen(history: History, cell: str, i: int) -> list[int]:
  """Returns the places of the decoded operations among all of a cell."""
  facts = history.facts
  if facts is None:
    return []
  return [
    len(facts.primitives) * facts.edges.index(edge) + facts.primitives.index(op)
    for edge, ops in _kept(history.genotypes[i], cell).items()
    for op in ops
    if op in facts.primitives and edge in facts.edges
  ]


def _codes(history: History, cell: str) -> tuple[list[list[float]], list[list[int]]]:
  """Returns for each epoch the shades of all real codes, and the places of the best ones."""
  facts = history.facts
  if facts is None or not facts.table.has_rows or cell not in history.beta:
    return [], []
  mask = np.asarray(facts.table.mask)
  if mask.shape[1] > _MOST_CODES:
    return [], []
  probs = np.stack([choices.code_shares(beta, facts.table) for beta in history.beta[cell]])
  place = np.cumsum(mask).reshape(mask.shape) - 1
  best = [place[np.arange(len(mask)), row.argmax(1)].tolist() for row in probs]
  return (probs[:, mask] / probs.max()).tolist(), best


def _code_map(history: History, cell: str) -> str:
  """Returns the heat map of the codes of a cell; '' where it has none, or too many."""
  shades, best = _codes(history, cell)
  if not shades:
    return ''
  table = history.facts.table  # pyrefly: ignore[missing-attribute]
  edges = history.facts.edges  # pyrefly: ignore[missing-attribute]
  mask, codes = np.asarray(table.mask), np.asarray(table.codes)
  side = 0 if table.by == 'source' else 1
  rows, boxes, kept, labels, place = [], [], [], [], 0
  for row, real in zip(codes, mask):
    own = np.flatnonzero(row.any(0))
    node = edges[own[0]][side] if len(own) else '?'
    rows.append(f'{"from" if side == 0 else "into"} {node}')
    count = int(real.sum())
    boxes.append(shades[-1][place : place + count])
    kept.append([place + k in best[-1] for k in range(count)])
    ends = [[str(edges[e][1 - side]) for e in np.flatnonzero(code).tolist()] for code in row[real]]
    labels.append([', '.join(names) or 'no edge' for names in ends])
    place += count
  title = f'Codes of the {cell} cell: nodes by sets of edges'
  drawing = heat_map.svg(f'beta-{cell}', title, rows, (), boxes, kept, _CODE_WIDTH, labels)
  caption = (
    f'Probabilities of the codes (beta) of the {cell} cell: a row for each node, a box for each '
    'set of edges. Frames are the most probable ones.'
  )
  return page.figure(drawing, caption, scrolls=True)


def _hex(values: Sequence[float] | Float[np.ndarray, ' N']) -> str:
  shares = np.clip(np.nan_to_num(np.asarray(values, float)), 0, 1)
  return np.round(255 * shares).astype(np.uint8).tobytes().hex()
