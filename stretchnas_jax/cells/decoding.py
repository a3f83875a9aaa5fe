"""Decoding: from the numbers of a search to the edges of a cell.

A rule says which edges stay and which operation stands on each. Then nodes that no input of the
cell reaches are pruned. The rule here is `most_probable`, the one of the paper; `decodings` has
those of other methods.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from stretchnas_jax.cells import graph as graph_lib
from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells import topology
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.space import CellEdge

Decoding = Callable[..., tuple[Sequence[CellEdge], Sequence[str]]]
"""`decoding(space, strength, edge_scores, beta, table, allowed) -> edges, notes` of one cell.

`strength` is `[E, O]` and `edge_scores` `[E]`, in double precision. `beta` is `[R, K]`, or None for
a table without rows. `allowed` is a bool `[E, O]`: which operations an edge may have, `none` aside.
Edges are `(operation, src, dst)`; a note is a sentence for a person. Pruning comes afterwards.
"""


def derive_cell(
  space: space_lib.SearchSpace,
  table: topology.TopologyTable,
  strength: Float[AnyArray, '...'],
  beta: Float[AnyArray, '...'] | None,
  *,
  decoding: Decoding | None = None,
  edge_scores: Float[AnyArray, ' E'] | None = None,
  allowed: Bool[AnyArray, 'E O'] | None = None,
) -> tuple[tuple[CellEdge, ...], tuple[int, ...], tuple[str, ...]]:
  """Decodes one cell.

  Args:
    space: the search space.
    table: the topology table; one without rows means DARTS' rule, `top_k`.
    strength: `[E, O]`, by which operations are ranked: `Relaxation.strength` of alpha.
    beta: the topology logits `[R, K]`; unused without rows.
    decoding: the rule; None for `most_probable`.
    edge_scores: the merged scores `[E]`. None: those of beta.
    allowed: which operations an edge may have. None: all.

  Returns:
    The edges as `(operation, src, dst)`; the intermediate nodes that an input reaches; and a
    sentence for each thing that was repaired or pruned.

  Raises:
    ValueError: an array has a wrong shape or a value that is not finite, or no code of the table
      has an edge from an input, or no edge from an input is left.

  Example:
    >>> space, strength = snas.darts_space(1), np.eye(2, 7)
    >>> edges, concat, notes = derive_cell(space, snas.topology.none(space.graph), strength, None)
    >>> edges, concat
    ((('max_pool_3x3', 0, 2), ('avg_pool_3x3', 1, 2)), (2,))
  """
  shape = (len(space.graph.edges), space.num_operations)
  strength = _checked('strength', strength, shape)
  beta = _checked('beta', beta, table.mask.shape).astype(np.float32) if table.has_rows else None
  if decoding is None:
    decoding, edge_scores = most_probable, np.ones(shape[0])
  elif edge_scores is None:
    edge_scores = topology.edge_scores(np.zeros((0, 0)) if beta is None else beta, table)
  scores = _checked('edge_scores', edge_scores, shape[:1])
  found, notes = decoding(space, strength, scores, beta, table, candidates(space, allowed))
  edges, concat = prune(found, space.graph.num_inputs)
  if not edges and space.graph.output == 'concat':
    raise ValueError('no edge from an input of the cell is left; no cell can be decoded')
  if len(concat) < space.graph.num_intermediate:
    notes = [*notes, _pruning_note(space.graph, found, concat)]
  return edges, concat, tuple(notes)


def most_probable(
  space: space_lib.SearchSpace,
  strength: Float[np.ndarray, 'E O'],
  edge_scores: Float[np.ndarray, ' E'],
  beta: Float[np.ndarray, 'R K'] | None,
  table: topology.TopologyTable,
  allowed: Bool[np.ndarray, 'E O'],
) -> tuple[list[CellEdge], list[str]]:
  """Decodes the topology first, then an operation for each edge, so that both are independent.

  The most probable code of each row says which edges stay. If they reach no node, the codes are
  repaired. A table without rows means DARTS' rule, `top_k`.

  Args:
    space: the search space.
    strength: by which operations are ranked.
    edge_scores: unused.
    beta: the topology logits.
    table: the topology table.
    allowed: which operations an edge may have.

  Returns:
    The edges, and a note where the codes were repaired.

  Example:
    >>> space = snas.darts_space(2)
    >>> strength = np.random.default_rng(0).random((5, 7))
    >>> table = snas.topology.output_subsets(space.graph)
    >>> beta = np.zeros(table.mask.shape)
    >>> beta[:, 1] = 1.0
    >>> scores, allowed = np.ones(5), np.ones((5, 7), bool)
    >>> edges, notes = most_probable(space, strength, scores, beta, table, allowed)
    >>> [edge[1:] for edge in edges]
    [(0, 2), (1, 2), (2, 3)]
  """
  del edge_scores
  notes = []
  if beta is None:
    kept = top_k(space, strength, table.k, table.by, allowed)
  else:
    kept = np.asarray(topology.select(beta, table))
    from_input = _from_inputs(space.graph)
    usable = from_input & candidates(space, allowed).any(1)
    wanted = usable if usable.any() else from_input
    if not kept[wanted].any():
      kept, note = _repair(space.graph, table, beta, wanted)
      notes.append(note)
  return with_strongest(space, strength, kept, allowed), notes


def top_k(
  space: space_lib.SearchSpace,
  strength: Float[AnyArray, 'E O'],
  k: int = 2,
  by: str = 'target',
  allowed: Bool[AnyArray, 'E O'] | None = None,
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
    allowed: which operations an edge may have. None: all.

  Returns:
    Whether each edge stays; an edge that may have no operation never does.

  Example:
    >>> strength = np.arange(35.0).reshape(5, 7)
    >>> top_k(snas.darts_space(2), strength).tolist()
    [True, True, False, True, True]
  """
  best = np.where(candidates(space, allowed), strength, -np.inf).max(1)
  edges_of = space.graph.in_edges if by == 'target' else space.graph.out_edges
  kept = np.zeros(len(best), bool)
  for node in range(space.graph.num_nodes):
    edges = list(edges_of(node))
    if by == 'target' or len(edges) >= k:
      # A stable sort keeps the first of equal edges.
      strongest = np.argsort(-best[edges], kind='stable')[:k]
      kept[np.array(edges, int)[strongest]] = True
  return kept & (best > -np.inf)


def with_strongest(
  space: space_lib.SearchSpace,
  strength: Float[np.ndarray, 'E O'],
  kept: Bool[np.ndarray, ' E'],
  allowed: Bool[np.ndarray, 'E O'],
) -> list[CellEdge]:
  """Puts the strongest operation on each edge that stays; of equal ones the first.

  Args:
    space: the search space.
    strength: by which operations are ranked.
    kept: which edges stay.
    allowed: which operations an edge may have; an edge without any is left out.

  Returns:
    The edges with their operations.
  """
  allowed = candidates(space, allowed)
  strongest = np.where(allowed, strength, -np.inf).argmax(1)
  return [
    (space.primitives[strongest[e]], *edge)
    for e, edge in enumerate(space.graph.edges)
    if kept[e] and allowed[e].any()
  ]


def candidates(
  space: space_lib.SearchSpace, allowed: Bool[AnyArray, 'E O'] | None
) -> Bool[np.ndarray, 'E O']:
  """Returns which operations the edges of a derived cell may have: never `none`.

  Args:
    space: the search space.
    allowed: which operations are allowed. None: all.
  """
  real = np.array([name != 'none' for name in space.primitives])
  all_edges = np.ones((len(space.graph.edges), 1), bool)
  return (all_edges if allowed is None else np.asarray(allowed, bool)) & real


def prune(
  edges: Sequence[CellEdge], num_inputs: int = 2
) -> tuple[tuple[CellEdge, ...], tuple[int, ...]]:
  """Drops the nodes that no input reaches, with their out-edges.

  Args:
    edges: `(operation, src, dst)` with src < dst.
    num_inputs: nodes before this one are inputs.

  Returns:
    The edges that stay, in the same order, and the nodes that they enter.

  Example:
    >>> prune([('skip_connect', 0, 2), ('skip_connect', 3, 4)])
    ((('skip_connect', 0, 2),), (2,))
  """
  inputs = set(range(num_inputs))
  reached = set(inputs)
  for _, src, dst in sorted(edges, key=lambda edge: edge[2]):
    if src in reached:
      reached.add(dst)
  kept = tuple(edge for edge in edges if edge[1] in reached)
  return kept, tuple(sorted(reached - inputs))


def _repair(
  graph: graph_lib.CellGraph,
  table: topology.TopologyTable,
  beta: Float[np.ndarray, 'R K'],
  wanted: Bool[np.ndarray, ' E'],
) -> tuple[Bool[np.ndarray, ' E'], str]:
  """Finds the most probable choice of codes that keeps a wanted edge from an input; adds a note.

  A cell keeps a node exactly if some row chooses a code with such an edge. No row's best
  code has such an edge here, and rows choose independently. So the best choice that has one differs
  from the best of all in a single row: the row where the other code costs the least.
  """
  logits = np.where(table.mask, beta, -np.inf)
  best = logits.argmax(1)
  useful = np.any(table.codes[:, :, wanted] > 0, axis=2)
  fallback = np.where(useful, logits, -np.inf)
  row = (fallback.max(1) - logits.max(1)).argmax()
  if not useful[row].any():
    raise ValueError('no code of the table has an edge from an input of the cell')
  best[row] = fallback[row].argmax()
  kept = np.any(table.codes[np.arange(len(best)), best] > 0, axis=0)
  added = _listed(graph.edges[e] for e in np.flatnonzero(table.codes[row, best[row]]))
  return kept, f'the most probable codes left no node, so the next best one was taken: {added}'


def _pruning_note(
  graph: graph_lib.CellGraph, edges: Sequence[CellEdge], concat: Sequence[int]
) -> str:
  """Returns the sentence that names the pruned nodes and edges."""
  gone = [node for node in range(graph.num_inputs, graph.num_nodes) if node not in concat]
  lost = [(src, dst) for _, src, dst in edges if src in gone]
  noun, verb = ('nodes', 'were') if len(gone) > 1 else ('node', 'was')
  note = f'no input reaches {noun} {", ".join(map(str, gone))}, which {verb} pruned'
  return f'{note} with {_listed(lost)}' if lost else note


def _listed(edges: Iterable[graph_lib.Edge]) -> str:
  return ', '.join(f'{src}->{dst}' for src, dst in edges)


def _from_inputs(graph: graph_lib.CellGraph) -> Bool[np.ndarray, ' E']:
  """Returns whether each edge comes from an input of the cell."""
  return np.array([src < graph.num_inputs for src, _ in graph.edges])


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
