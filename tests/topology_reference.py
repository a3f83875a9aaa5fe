"""The topology models of the paper as plain loops in float64.

The reference knows a node's choices as sets of neighbours and never touches the arrays of a table.
`choices` translates a table, and a test shows that the translation loses nothing.
"""

import functools
import math

import numpy as np

from stretchnas_jax.cells import graph, topology

BUILDERS = {
  'input_pairs': topology.input_pairs,
  'output_pairs': topology.output_pairs,
  'subsets': topology.output_subsets,
  'nonempty': lambda g: topology.output_subsets(g, include_empty=False),
  'unit': lambda g: topology.output_subsets(g, unit_scale=True),
  'out_1': lambda g: topology.k_subsets(g, 1),
  'in_1': lambda g: topology.k_subsets(g, 1, by='target'),
  'in_3': lambda g: topology.k_subsets(g, 3, by='target'),
}


@functools.cache
def built(kind, nodes):
  return BUILDERS[kind](graph.CellGraph(nodes))


def draw(kind, nodes, seed, spread):
  beta = np.random.default_rng(seed).normal(size=built(kind, nodes).mask.shape) * spread
  return beta.astype(np.float32)


def neighbours(nodes, node, by):
  if by == 'source':
    return [j for j in range(2, nodes + 2) if j > node]
  return [i for i in range(nodes + 2) if i < node and node >= 2]


def expected_choices(kind, nodes):
  """Returns, for each node, the sets of neighbours that it may choose by the paper."""
  by = 'target' if kind.startswith('in') else 'source'
  found = {}
  for node in range(nodes + 2):
    near = neighbours(nodes, node, by)
    every = [
      frozenset(n for b, n in enumerate(near) if code >> b & 1) for code in range(2 ** len(near))
    ]
    if kind in ('input_pairs', 'output_pairs'):
      every = [s for s in every if len(s) == 2]
    elif kind in ('out_1', 'in_1'):
      every = [s for s in every if len(s) == 1]
    elif kind == 'in_3':  # a node with fewer inputs keeps them all
      every = [s for s in every if near and len(s) == min(3, len(near))]
    elif kind == 'nonempty' or not near:
      every = [s for s in every if s]
    if every:
      found[node] = every
  return found


def choices(kind, nodes, beta):
  """Returns, for each node, the logit of each set of neighbours in the arrays of a table."""
  table, edges = built(kind, nodes), graph.CellGraph(nodes).edges
  here, there = (0, 1) if table.by == 'source' else (1, 0)
  named = list(expected_choices(kind, nodes))
  found = {}
  for r, node in enumerate(named):
    found[node] = {}
    for k in range(table.codes.shape[1]):
      if table.mask[r, k]:
        chosen = [edges[e] for e in np.flatnonzero(table.codes[r, k])]
        assert all(edge[here] == node for edge in chosen)
        found[node][frozenset(edge[there] for edge in chosen)] = float(beta[r, k])
  return found


def probabilities(logits):
  top = max(logits.values())
  total = sum(math.exp(value - top) for value in logits.values())
  return {code: math.exp(value - top) / total for code, value in logits.items()}


def reference_scores(kind, nodes, beta):
  """Returns s(i, j) of each edge (Eq. 6, 10 and 13)."""
  by = built(kind, nodes).by
  chosen = choices(kind, nodes, beta)
  scores = []
  for i, j in graph.CellGraph(nodes).edges:
    node, other = (i, j) if by == 'source' else (j, i)
    n = len(neighbours(nodes, node, by))
    probs = probabilities(chosen[node]) if node in chosen else {}
    merged = sum(p for code, p in probs.items() if other in code)
    if kind == 'output_pairs':
      merged *= (n * (n - 1) / 2) / (n - 1) if n > 1 else 0
    elif kind in ('subsets', 'nonempty'):
      merged *= (2**n - 1) / 2 ** (n - 1)
    elif kind == 'unit':
      merged *= 2**n / 2 ** (n - 1)
    elif kind == 'out_1':
      merged *= n
    scores.append(merged)
  return np.array(scores)


def reference_penalty(kind, nodes, beta):
  """Returns r(beta) (Eq. 14)."""
  chosen, total = choices(kind, nodes, beta), 0.0
  for j in range(2, nodes + 2):
    product = 1.0
    for i in range(j):
      probs = probabilities(chosen[i]) if i in chosen else {}
      containing = [p for code, p in probs.items() if j in code]
      if containing:
        product *= 1 - max(containing) / max(probs.values())
    total += product
  return total
