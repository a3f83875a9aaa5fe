"""Topology models as static tables of binary codes over the edges of a cell (Eq. 3-14).

A row of a table is a node that chooses among the codes of its row: which of its out-edges, or
in-edges, exist. Tables are built once in numpy; at run time one function serves them all. A
topology model of your own is one more table: fill the fields of `TopologyTable`.

Letters: R rows, K codes of the longest row, E edges.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax.cells import graph as graph_lib

# A masked logit: far below any real one, and finite, so that no gradient becomes NaN.
MASKED = -1e9

# Codes x edges; 10 intermediate nodes with all subsets of out-edges take 0.7 million.
MAX_ENTRIES = 50_000_000

# Values of `by`: the node that chooses is the source, or the target, of its edges.
SIDES = ('source', 'target')


class TopologyTable(NamedTuple):
  """What each node can choose from."""

  codes: np.ndarray  # [R, K, E], float32, 0 or 1
  mask: np.ndarray  # [R, K], bool: which codes are real
  scale: np.ndarray  # [E], float32, of the merged probabilities; 0 where no code has the edge
  by: str = 'source'  # a row chooses its node's out-edges, or with 'target' the in-edges
  k: int = 2  # of a table without rows: how many edges of a node stay


# `by` and `k` are part of the structure: a table can also be an argument of a jitted function.
jax.tree_util.register_pytree_node(
  TopologyTable,
  lambda table: (table[:3], table[3:]),
  lambda static, arrays: TopologyTable(*arrays, *static),
)


def _build(graph, by, sizes, scale):
  """A table of all subsets, of the sizes `sizes(n)`, of every node's n edges.

  `scale(n)` is the factor of an edge whose node has n.
  """
  edges_of = graph.out_edges if by == 'source' else graph.in_edges
  groups = [edges_of(node) for node in range(graph.num_nodes)]
  groups = [edges for edges in groups if edges and len(sizes(len(edges)))]
  counts = [sum(math.comb(len(edges), k) for k in sizes(len(edges))) for edges in groups]
  shape = (len(groups), max(counts, default=0), len(graph.edges))
  if math.prod(shape) > MAX_ENTRIES:
    raise ValueError(
      f'num_intermediate is {graph.num_intermediate}; that gives a node {shape[1]} codes to '
      f'choose from, and a table of at most {MAX_ENTRIES} entries is allowed'
    )
  codes, mask = np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
  scales = np.zeros(shape[2], np.float32)
  for r, edges in enumerate(groups):
    subsets = (s for k in sizes(len(edges)) for s in itertools.combinations(edges, k))
    for k, subset in enumerate(subsets):
      codes[r, k, list(subset)] = 1
    mask[r, : counts[r]] = True
    scales[list(edges)] = scale(len(edges))
  return TopologyTable(codes, mask, scales, by)


def none(graph, by='target', k=2):
  """No rows: every edge scores 1, and the topology is read off alpha, as in DARTS.

  `by` tells the derivation whose k strongest edges stay: each node's in-edges (DARTS, k = 2) or
  out-edges (the paper's Table 5).

  Raises:
    ValueError: no node has k such edges.
  """
  _check_k(graph, k, by)
  edges = len(graph.edges)
  codes, mask = np.zeros((0, 0, edges), np.float32), np.zeros((0, 0), bool)
  return TopologyTable(codes, mask, np.ones(edges, np.float32), by, k)


def input_pairs(graph):
  """Two in-edges for each node (Eq. 3-6)."""
  return k_subsets(graph, 2, by='target')


def output_pairs(graph):
  """Two out-edges for each node that has at least two (Eq. 7-10): the paper's "w/o SC"."""
  return k_subsets(graph, 2)


def output_subsets(graph, include_empty=True):
  """Any out-edges of each node (Eq. 11-13): stretchable cells.

  The scale is the printed one, (2^n - 1) / 2^(n-1), with and without the empty code.
  """
  first = 0 if include_empty else 1
  return _build(graph, 'source', lambda n: range(first, n + 1), lambda n: (2**n - 1) / 2 ** (n - 1))


def k_subsets(graph, k, by='source'):
  """Exactly k out-edges (by='source') or in-edges (by='target') of each node (Fig. 5).

  By source the scale is C(n, k) / C(n-1, k-1), which makes every score 1 where all codes are
  equally probable; by target there is none (Eq. 6). One in-edge each is PC-DARTS' edge softmax.

  Raises:
    ValueError: no node has k such edges.
  """
  _check_k(graph, k, by)
  scale = lambda n: math.comb(n, k) / math.comb(n - 1, k - 1) if by == 'source' else 1.0
  return _build(graph, by, lambda n: [k] if n >= k else [], scale)


def check_table(table: TopologyTable, graph: graph_lib.CellGraph) -> None:
  """Raises ValueError unless the arrays of a table fit each other and the graph.

  Args:
    table: any table, for example a researcher's own.
    graph: the graph of the cells.
  """
  edges, codes = len(graph.edges), np.shape(table.codes)
  if len(codes) != 3 or codes[2] != edges:
    raise ValueError(
      f'the codes of the table have the shape {list(codes)}; for this graph they must be '
      f'[R, K, {edges}]'
    )
  if np.shape(table.mask) != codes[:2]:
    raise ValueError(
      f'the mask of the table has the shape {list(np.shape(table.mask))}; with codes of '
      f'{list(codes)} it must be {list(codes[:2])}'
    )
  if np.shape(table.scale) != (edges,):
    raise ValueError(
      f'the scale of the table has the shape {list(np.shape(table.scale))}; for this graph it must '
      f'be [{edges}]'
    )
  _check_by(table.by)


def init_beta(key, table, std=1e-3):
  """Topology logits `[R, K]`, normal with deviation `std`."""
  return std * jax.random.normal(key, table.mask.shape)


def code_probs(beta, table):
  """Probabilities of the codes (Eq. 5, 8, 12), 0 where masked. `[R, K] -> [R, K]`"""
  return jax.nn.softmax(_logits(beta, table), axis=-1) if len(table.mask) else beta


def edge_scores(beta, table):
  """Merged scores s(i, j) of the edges (Eq. 6, 9, 10, 13). `[R, K] -> [E]`"""
  if not len(table.mask):
    return jnp.asarray(table.scale)
  # Accelerators multiply matrices in lower precision unless told otherwise.
  merged = jnp.einsum('rk,rke->e', code_probs(beta, table), table.codes, precision='highest')
  return table.scale * merged


def invalid_topology_penalty(beta, table):
  """r(beta) of one cell type (Eq. 14): 0 where each node is reached by a most probable code.

  A source whose codes never contain the edge contributes a factor 1; by target the penalty is 0,
  as a node then always has its inputs.

  Args:
    beta: `[R, K]`.
    table: a `TopologyTable`.

  Returns:
    A scalar.
  """
  if table.by == 'target' or not len(table.mask):
    return jnp.zeros(())
  logits = _logits(beta, table)
  best = logits.max(-1)
  with_edge = jnp.where(table.codes > 0, logits[:, :, None], MASKED).max(1)  # [R, E]
  # 1 - p / max p, from the difference of logits: exactly 0 for an edge of the best code.
  missing = -jnp.expm1(with_edge - best[:, None])
  factors = jnp.where((table.codes > 0).any(1), missing, 1.0).prod(0)  # [E]
  return jnp.append(factors, 1.0)[_entering(len(table.scale))].prod(1).sum()


def select(beta, table):
  """The edges of the most probable code of each row; of equal ones the first. -> bool `[E]`

  All edges, where the table has no rows.
  """
  if not len(table.mask):
    return jnp.ones(len(table.scale), bool)
  best = _logits(beta, table).argmax(-1)
  chosen = jnp.take_along_axis(jnp.asarray(table.codes), best[:, None, None], 1)
  return (chosen > 0).any((0, 1))


def beta_entropy(beta, table):
  """Mean entropy of the rows, in nats; 0 where there are none."""
  if not len(table.mask):
    return jnp.zeros(())
  log_probs = jax.nn.log_softmax(_logits(beta, table), axis=-1)
  terms = jnp.where(table.mask, jnp.exp(log_probs) * log_probs, 0.0)
  return -terms.sum(-1).mean()


def _logits(beta, table):
  return jnp.where(table.mask, beta, MASKED)


def _entering(num_edges):
  """The edges that enter node 2, 3, ...: `[S, S + 1]`, filled up with `num_edges`.

  Edges stand by destination, so a node's are a run, of one more than those of the node before.
  """
  nodes = math.isqrt(2 * num_edges + 2) - 1
  runs = np.cumsum([0, *range(2, nodes + 2)])
  columns = np.arange(nodes + 1)
  return np.where(columns < np.diff(runs)[:, None], runs[:-1, None] + columns, num_edges)


def _check_k(graph, k, by):
  _check_by(by)
  if isinstance(k, bool) or not isinstance(k, int) or k < 1:
    raise ValueError(f'k is {k!r}; it must be a whole number of at least 1')
  most = graph.num_intermediate + (by == 'target')
  if k > most:
    raise ValueError(f'k is {k}; by {by}, no node of this graph has more than {most} edges')


def _check_by(by):
  if by not in SIDES:
    raise ValueError(f'by is {by!r}; allowed are {", ".join(SIDES)}')
