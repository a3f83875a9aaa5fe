"""Decoding: from the numbers of a search to the edges of a cell.

The topology is decoded first, and then an operation for each edge that stays, so that both are
independent. The most probable code of each row says which edges stay; the strongest operation
stands on each. Nodes that no input of the cell reaches are pruned. If none is reached, the codes
are repaired.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from stretchnas_jax.cells import graph as graph_lib
from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells import topology
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.space import CellEdge


def derive_cell(
  space: space_lib.SearchSpace,
  table: topology.TopologyTable,
  strength: Float[AnyArray, '...'],
  beta: Float[AnyArray, '...'] | None,
) -> tuple[tuple[CellEdge, ...], tuple[int, ...], tuple[str, ...]]:
  """Decodes one cell.

  Args:
    space: the search space.
    table: the topology table; one without rows means DARTS' rule, `top_k`.
    strength: `[E, O]`, by which operations are ranked: `Relaxation.strength` of alpha.
    beta: the topology logits `[R, K]`; unused without rows.

  Returns:
    The edges as `(operation, src, dst)`; the intermediate nodes that an input reaches; and a
    sentence for each thing that was repaired or pruned.

  Raises:
    ValueError: an array has a wrong shape or a value that is not finite, or no code of the table
      has an edge from an input.
  """
  graph = space.graph
  strength = _checked('strength', strength, (len(graph.edges), space.num_operations))
  notes = []
  if not table.has_rows:
    kept = top_k(space, strength, table.k, table.by)
  else:
    beta = _checked('beta', beta, table.mask.shape).astype(np.float32)
    kept = np.asarray(topology.select(beta, table))
    if not kept[_from_inputs(graph)].any():
      kept, note = _repair(graph, table, beta)
      notes.append(note)
  operations = _strongest_operations(space, strength)
  edges = [(op, *edge) for op, edge, keep in zip(operations, graph.edges, kept) if keep]
  edges, concat = prune(edges)
  if len(concat) < graph.num_intermediate:
    notes.append(_pruning_note(graph, kept, concat))
  return edges, concat, tuple(notes)


def top_k(
  space: space_lib.SearchSpace, strength: Float[AnyArray, 'E O'], k: int = 2, by: str = 'target'
) -> Bool[np.ndarray, ' E']:
  """Keeps the k edges of each node whose best operation other than `none` is strongest (DARTS).

  A node with fewer than k in-edges keeps them all. A node with fewer than k out-edges keeps none,
  as in `topology.k_subsets`. With k = 2 and four nodes eight edges stay either way, as in the
  paper's Table 5. Of equal edges the first stays.

  Args:
    space: the search space.
    strength: by which operations are ranked.
    k: how many edges of a node stay.
    by: 'target' for the in-edges of each node, 'source' for its out-edges.

  Returns:
    Whether each edge stays.
  """
  best = np.asarray(strength)[:, _candidates(space)].max(1)
  edges_of = space.graph.in_edges if by == 'target' else space.graph.out_edges
  kept = np.zeros(len(best), bool)
  for node in range(space.graph.num_nodes):
    edges = list(edges_of(node))
    if by == 'target' or len(edges) >= k:
      # A stable sort keeps the first of equal edges.
      strongest = np.argsort(-best[edges], kind='stable')[:k]
      kept[np.array(edges, int)[strongest]] = True
  return kept


def prune(edges: Sequence[CellEdge]) -> tuple[tuple[CellEdge, ...], tuple[int, ...]]:
  """Drops the nodes that no input reaches, with their out-edges.

  Args:
    edges: `(operation, src, dst)` with src < dst.

  Returns:
    The edges that stay, in the same order, and the nodes that they enter.
  """
  reached = {0, 1}
  for _, src, dst in sorted(edges, key=lambda edge: edge[2]):
    if src in reached:
      reached.add(dst)
  kept = tuple(edge for edge in edges if edge[1] in reached)
  return kept, tuple(sorted(reached - {0, 1}))


def _repair(
  graph: graph_lib.CellGraph, table: topology.TopologyTable, beta: Float[np.ndarray, 'R K']
) -> tuple[Bool[np.ndarray, ' E'], str]:
  """Finds the most probable choice of codes that keeps an edge from an input; adds a note.

  A cell keeps a node exactly if some row chooses a code with an edge from an input. No row's best
  code has such an edge here, and rows choose independently. So the best choice that has one differs
  from the best of all in a single row: the row where the other code costs the least.
  """
  logits = np.where(table.mask, beta, -np.inf)
  best = logits.argmax(1)
  useful = np.any(table.codes[:, :, _from_inputs(graph)] > 0, axis=2)
  fallback = np.where(useful, logits, -np.inf)
  row = (fallback.max(1) - logits.max(1)).argmax()
  if not useful[row].any():
    raise ValueError('no code of the table has an edge from an input of the cell')
  best[row] = fallback[row].argmax()
  kept = np.any(table.codes[np.arange(len(best)), best] > 0, axis=0)
  added = _listed(graph.edges[e] for e in np.flatnonzero(table.codes[row, best[row]]))
  return kept, f'the most probable codes left no node, so the next best one was taken: {added}'


def _pruning_note(
  graph: graph_lib.CellGraph, kept: Bool[np.ndarray, ' E'], concat: Sequence[int]
) -> str:
  """Returns the sentence that names the pruned nodes and edges."""
  gone = [node for node in range(2, graph.num_nodes) if node not in concat]
  lost = [edge for edge, keep in zip(graph.edges, kept) if keep and edge[0] in gone]
  noun, verb = ('nodes', 'were') if len(gone) > 1 else ('node', 'was')
  note = f'no input reaches {noun} {", ".join(map(str, gone))}, which {verb} pruned'
  return f'{note} with {_listed(lost)}' if lost else note


def _listed(edges: Iterable[graph_lib.Edge]) -> str:
  return ', '.join(f'{src}->{dst}' for src, dst in edges)


def _strongest_operations(
  space: space_lib.SearchSpace, strength: Float[np.ndarray, 'E O']
) -> list[str]:
  """Returns the name of each edge's strongest operation; of equal ones the first."""
  candidates = _candidates(space)
  return [space.primitives[candidates[o]] for o in strength[:, candidates].argmax(1)]


def _candidates(space: space_lib.SearchSpace) -> list[int]:
  """Returns the places of the operations that a cell may hold: all but `none`."""
  return [o for o, name in enumerate(space.primitives) if name != 'none']


def _from_inputs(graph: graph_lib.CellGraph) -> Bool[np.ndarray, ' E']:
  """Returns whether each edge comes from an input of the cell."""
  return np.array([src < 2 for src, _ in graph.edges])


def _checked(
  name: str, values: Float[AnyArray, '...'] | None, shape: tuple[int, ...]
) -> Float[np.ndarray, '...']:
  """Returns an array in double precision; ValueError if its shape or a value is wrong."""
  values = np.asarray(values, np.float64)
  if values.shape != shape:
    raise ValueError(f'{name} has the shape {values.shape}; it must be {shape}')
  if not np.isfinite(values).all():
    raise ValueError(f'{name} holds a value that is not finite; no cell can be decoded from it')
  return values
