"""Topology models as static tables of binary codes over the edges of a cell (Eq. 3-14).

A row of a table is a node that chooses among the codes of its row: which of its out-edges, or
in-edges, exist. Tables are built once in numpy; at run time one function serves them all.
Letters: R rows, K codes of the longest row, E edges.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Masked logits: far below any real one, and finite, so that no gradient becomes NaN.
MASKED = -1e9


class TopologyTable(NamedTuple):
  """What each node can choose from."""

  codes: np.ndarray  # [R, K, E], float32, 0 or 1
  mask: np.ndarray  # [R, K], bool: which codes are real
  scale: np.ndarray  # [E], float32, of the merged probabilities
  by: str  # 'source': a row for each node's out-edges; 'target': for its in-edges


def _build(graph, by, sizes, scale):
  """A table of all subsets, of the sizes `sizes(n)`, of every node's n edges.

  `scale(n)` is the factor of an edge whose node has n.
  """
  edges_of = graph.out_edges if by == 'source' else graph.in_edges
  rows, scales = [], np.zeros(len(graph.edges), np.float32)
  for node in range(graph.num_nodes):
    edges = edges_of(node)
    subsets = [s for k in sizes(len(edges)) for s in itertools.combinations(edges, k)]
    if not edges or not subsets:
      continue
    rows.append(subsets)
    scales[list(edges)] = scale(len(edges))
  if not rows:
    raise ValueError(f'no node of {graph.num_intermediate} intermediate ones has so many edges')
  longest = max(map(len, rows))
  codes = np.zeros((len(rows), longest, len(graph.edges)), np.float32)
  mask = np.zeros((len(rows), longest), bool)
  for r, subsets in enumerate(rows):
    mask[r, : len(subsets)] = True
    for k, subset in enumerate(subsets):
      codes[r, k, list(subset)] = 1
  return TopologyTable(codes, mask, scales, by)


def none(graph):
  """No rows: every edge scores 1, and the topology is read off alpha, as in DARTS."""
  edges = len(graph.edges)
  codes, mask = np.zeros((0, 0, edges), np.float32), np.zeros((0, 0), bool)
  return TopologyTable(codes, mask, np.ones(edges, np.float32), 'target')


def input_pairs(graph):
  """Two in-edges for each node (Eq. 3-6)."""
  return k_subsets(graph, 2, by='target')


def output_pairs(graph):
  """Two out-edges for each node with at least two (Eq. 7-10): "w/o SC"."""
  return k_subsets(graph, 2)


def output_subsets(graph, include_empty=True):
  """Any out-edges of each node (Eq. 11-13): stretchable cells.

  The scale is the printed one, (2^n - 1) / 2^(n-1), with and without the empty code.
  """
  first = 0 if include_empty else 1
  return _build(
    graph, 'source', lambda n: range(first, n + 1), lambda n: (2**n - 1) / 2 ** (n - 1)
  )


def k_subsets(graph, k, by='source'):
  """Exactly k out-edges (by='source') or in-edges (by='target') of each node (Fig. 5).

  The scale, C(n, k) / C(n-1, k-1) by source, makes every score 1 where all codes are equally
  probable; by target there is none (Eq. 6).
  """
  if by not in ('source', 'target'):
    raise ValueError(f'by is {by!r}; allowed are source, target')
  if isinstance(k, bool) or not isinstance(k, int) or k < 1:
    raise ValueError(f'k is {k!r}; it must be a whole number of at least 1')
  scale = lambda n: math.comb(n, k) / math.comb(n - 1, k - 1) if by == 'source' else 1.0
  return _build(graph, by, lambda n: [k] if n >= k else [], scale)


def init_beta(key, table, std=1e-3):
  """Topology logits `[R, K]`, normal with deviation `std`."""
  return std * jax.random.normal(key, table.mask.shape)


def masked_logits(beta, table):
  return jnp.where(table.mask, beta, MASKED)


def code_probs(beta, table):
  """Probabilities of the codes (Eq. 5, 8, 12). `[R, K] -> [R, K]`"""
  return jax.nn.softmax(masked_logits(beta, table), axis=-1) if len(table.mask) else beta


def edge_scores(beta, table):
  """Merged scores s(i, j) of the edges (Eq. 6, 9, 10, 13). `[R, K] -> [E]`"""
  if not len(table.mask):
    return jnp.asarray(table.scale)
  return table.scale * jnp.einsum('rk,rke->e', code_probs(beta, table), table.codes)


def invalid_topology_penalty(beta, table):
  """r(beta) of one cell type (Eq. 14): 0 where each node is reached by a most probable code.

  The ratio of probabilities is taken between logits, which is exactly 1 for the best code. A
  source whose codes never contain the edge contributes a factor 1; by target the penalty is 0.

  Args:
    beta: `[R, K]`.
    table: a `TopologyTable`.

  Returns:
    A scalar.
  """
  if table.by == 'target' or not len(table.mask):
    return jnp.zeros(())
  logits = masked_logits(beta, table)
  best = logits.max(-1)
  with_edge = jnp.where(table.codes > 0, logits[:, :, None], MASKED).max(1)  # [R, E]
  ratio = jnp.where(table.codes.any(1), jnp.exp(with_edge - best[:, None]), 0.0)
  # Edges are kept by destination; each edge has one row at most, the others give a factor 1.
  factors = (1.0 - ratio).prod(0)  # [E]
  targets = _targets(len(table.scale))
  return sum(factors[targets == j].prod() for j in np.unique(targets))


def _targets(num_edges):
  """Destinations `[E]` of the edges of a graph with so many."""
  return np.array([j for j in range(2, num_edges + 2) for _ in range(j)][:num_edges])


def select(beta, table):
  """The edges of the most probable code of each row; of equal ones the first. -> bool `[E]`"""
  if not len(table.mask):
    return jnp.ones(len(table.scale), bool)
  best = masked_logits(beta, table).argmax(-1)
  chosen = jnp.take_along_axis(jnp.asarray(table.codes), best[:, None, None], 1)
  return (chosen > 0).any((0, 1))


def beta_entropy(beta, table):
  """Mean entropy of the rows, in nats; 0 where there are none."""
  if not len(table.mask):
    return jnp.zeros(())
  log_probs = jax.nn.log_softmax(masked_logits(beta, table), axis=-1)
  terms = jnp.where(table.mask, jnp.exp(log_probs) * log_probs, 0.0)
  return -terms.sum(-1).mean()
