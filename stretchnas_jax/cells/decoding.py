"""From the numbers of a search to the edges of a cell.

A cell is read off its table first, so that topology and operations stay decoupled: the arg-max
code of each row says which edges stay, the arg-max operation what stands on them. What no input
of the cell reaches is pruned then, and where nothing would be left the codes are repaired.
"""

import numpy as np

from stretchnas_jax.cells import topology


def derive_cell(space, table, strength, beta):
  """The cell that the strengths of operations and topology logits stand for.

  Args:
    space: a `SearchSpace`.
    table: a `TopologyTable`; one without rows means DARTS' rule, `top_k`.
    strength: `[E, O]`, by which operations are ranked: `Relaxation.strength`.
    beta: `[R, K]`.

  Returns:
    `(edges, concat, notes)`: edges as `(operation, src, dst)`, the intermediate nodes that an
    input reaches, and a sentence for each thing that was repaired or pruned.
  """
  strength = _checked('strength', strength, (len(space.graph.edges), space.num_operations))
  notes = []
  if not len(table.mask):
    kept = top_k(space, strength, table.k, table.by)
  else:
    beta = _checked('beta', beta, table.mask.shape).astype(np.float32)
    kept = np.asarray(topology.select(beta, table))
    if not kept[_from_inputs(space.graph)].any():
      kept, note = _repair(space.graph, table, beta)
      notes.append(note)
  edges = [
    (op, *edge)
    for op, edge, keep in zip(_operations(space, strength), space.graph.edges, kept)
    if keep
  ]
  edges, concat = prune(edges)
  if len(concat) < space.graph.num_intermediate:
    notes.append(_pruning(space.graph, kept, concat))
  return edges, concat, tuple(notes)


def top_k(space, strength, k=2, by='target'):
  """DARTS' rule: a node keeps the k edges whose best operation other than `none` is strongest.

  A node with fewer than k in-edges keeps them all, one with fewer than k out-edges none, as in
  `topology.k_subsets`: DARTS' eight edges either way, as the paper's Table 5 has it. Of equal edges
  the first stays.

  Args:
    space: a `SearchSpace`.
    strength: `[E, O]`.
    k: edges of a node.
    by: 'target' for the in-edges of each node, 'source' for its out-edges.

  Returns:
    The edges that stay, bool `[E]`.
  """
  best = np.asarray(strength)[:, _candidates(space)].max(1)
  edges_of = space.graph.in_edges if by == 'target' else space.graph.out_edges
  kept = np.zeros(len(best), bool)
  for node in range(space.graph.num_nodes):
    if by == 'target' or len(edges_of(node)) >= k:
      kept[sorted(edges_of(node), key=lambda e: -best[e])[:k]] = True
  return kept


def prune(edges):
  """Drops the nodes that no input reaches, with their out-edges.

  Args:
    edges: `(operation, src, dst)` with src < dst.

  Returns:
    `(edges, concat)`: those that stay, in the same order, and the nodes they enter.
  """
  reached = {0, 1}
  for _, src, dst in sorted(edges, key=lambda edge: edge[2]):
    if src in reached:
      reached.add(dst)
  edges = tuple(edge for edge in edges if edge[1] in reached)
  return edges, tuple(sorted(reached - {0, 1}))


def _repair(graph, table, beta):
  """The most probable choice of codes that keeps an edge from an input, and a note.

  A cell keeps a node exactly if some row chooses a code with an edge from an input. No row's best
  code has one here, and rows choose independently. So the first choice in the order of the joint
  probability that has one differs from the best in a single row: where that costs the least.
  """
  logits = np.where(table.mask, beta, -np.inf)
  best = logits.argmax(1)
  useful = (table.codes[:, :, _from_inputs(graph)] > 0).any(2)
  fallback = np.where(useful, logits, -np.inf)
  row = (fallback.max(1) - logits.max(1)).argmax()
  if not useful[row].any():
    raise ValueError('no code of the table has an edge from an input of the cell')
  best[row] = fallback[row].argmax()
  kept = (table.codes[np.arange(len(best)), best] > 0).any(0)
  added = _listed(graph.edges[e] for e in np.flatnonzero(table.codes[row, best[row]]))
  return kept, f'the most probable codes left no node, so the next best one was taken: {added}'


def _pruning(graph, kept, concat):
  gone = [node for node in range(2, graph.num_nodes) if node not in concat]
  lost = [edge for edge, keep in zip(graph.edges, kept) if keep and edge[0] in gone]
  nodes = f'node{"s" * (len(gone) > 1)} {", ".join(map(str, gone))}'
  verb = 'were' if len(gone) > 1 else 'was'
  return f'no input reaches {nodes}, which {verb} pruned' + (
    f' with {_listed(lost)}' if lost else ''
  )


def _listed(edges):
  return ', '.join(f'{src}->{dst}' for src, dst in edges)


def _operations(space, strength):
  """The name of each edge's strongest operation; of equal ones the first."""
  candidates = _candidates(space)
  return [space.primitives[candidates[o]] for o in strength[:, candidates].argmax(1)]


def _candidates(space):
  return [o for o, name in enumerate(space.primitives) if name != 'none']


def _from_inputs(graph):
  return np.array([src < 2 for src, _ in graph.edges])


def _checked(name, values, shape):
  values = np.asarray(values, np.float64)
  if values.shape != shape:
    raise ValueError(f'{name} has the shape {values.shape}; it must be {shape}')
  if not np.isfinite(values).all():
    raise ValueError(f'{name} holds a value that is not finite; no cell can be read off it')
  return values
