"""Functions of a topology table and its logits: probabilities, edge scores, the penalty r(beta).

One function serves every topology model, as a model is a static table of binary codes over the
edges of a cell (Eq. 3-14). The builders of tables stand in `topology_tables` and can be used from
here.

Letters: R rows, K codes of the longest row, E edges.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.topology_tables import (
  SIDES,
  TopologyTable,
  check_table,
  input_pairs,
  k_subsets,
  none,
  output_pairs,
  output_subsets,
)

__all__ = [
  'SIDES',
  'TopologyTable',
  'beta_entropy',
  'check_table',
  'code_probs',
  'edge_scores',
  'init_beta',
  'input_pairs',
  'invalid_topology_penalty',
  'k_subsets',
  'none',
  'output_pairs',
  'output_subsets',
  'select',
]

# A masked logit: far below any real one, and finite, so that no gradient becomes NaN.
_MASKED = -1e9


def init_beta(key: PRNGKeyArray, table: TopologyTable, std: float = 1e-3) -> Float[Array, 'R K']:
  """Draws topology logits from a normal distribution.

  Args:
    key: of the draw.
    table: gives R and K.
    std: the standard deviation.

  Returns:
    The logits.

  Example:
    >>> table = output_subsets(snas.CellGraph(2))
    >>> init_beta(jax.random.key(0), table).shape
    (3, 4)
  """
  return std * jax.random.normal(key, table.mask.shape)


def code_probs(beta: Float[AnyArray, 'R K'], table: TopologyTable) -> Float[AnyArray, 'R K']:
  """Returns the probabilities of the codes (Eq. 5, 8, 12).

  Args:
    beta: the topology logits.
    table: the table.

  Returns:
    A softmax over the real codes of each row; 0 where masked.

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> table = output_subsets(CellGraph(1))
    >>> code_probs(jnp.zeros(table.mask.shape), table).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
  """
  return jax.nn.softmax(_logits(beta, table), axis=-1) if table.has_rows else beta


def edge_scores(beta: Float[AnyArray, 'R K'], table: TopologyTable) -> Float[Array, ' E']:
  """Returns the merged scores s(i, j) of the edges (Eq. 6, 9, 10, 13).

  Args:
    beta: the topology logits.
    table: the table.

  Returns:
    A score for each edge: its scale times the sum of the probabilities of the codes that have it.

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> table = output_pairs(CellGraph(3))
    >>> edge_scores(jnp.zeros(table.mask.shape), table).tolist()  # 1 while nothing is preferred
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
  """
  if not table.has_rows:
    return jnp.asarray(table.scale)
  # Accelerators multiply matrices in lower precision unless told otherwise.
  merged = jnp.einsum('rk,rke->e', code_probs(beta, table), table.codes, precision='highest')
  return jnp.asarray(table.scale * merged)


def invalid_topology_penalty(
  beta: Float[AnyArray, 'R K'], table: TopologyTable
) -> Float[Array, '']:
  """Returns r(beta) of one cell type (Eq. 14).

  It is 0 where a most probable code reaches each node. A source whose codes never contain the edge
  contributes a factor 1. By target the penalty is 0, as a node then always has its inputs.

  Args:
    beta: the topology logits.
    table: the table.

  Returns:
    A scalar.

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> table = output_subsets(CellGraph(1))  # the codes of a row: no edge, the edge
    >>> bool(invalid_topology_penalty(jnp.array([[0.0, 9.0], [9.0, 0.0]]), table) == 0)
    True
  """
  if table.by == 'target' or not table.has_rows:
    return jnp.zeros(())
  logits = _logits(beta, table)
  best = logits.max(-1)
  with_edge = jnp.where(table.codes > 0, logits[:, :, None], _MASKED).max(1)  # [R, E]
  # 1 - p / max p, from the difference of logits: exactly 0 for an edge of the best code.
  missing = -jnp.expm1(with_edge - best[:, None])
  factors = jnp.where((table.codes > 0).any(1), missing, 1.0).prod(0)  # [E]
  return jnp.append(factors, 1.0)[_entering(len(table.scale))].prod(1).sum()


def select(beta: Float[AnyArray, 'R K'], table: TopologyTable) -> Bool[Array, ' E']:
  """Returns the edges of the most probable code of each row.

  Args:
    beta: the topology logits.
    table: the table.

  Returns:
    True for each edge that a row chooses. Of equal codes the first is chosen. Without rows, all
    edges.

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> table = output_subsets(CellGraph(1))
    >>> select(jnp.array([[0.0, 9.0], [9.0, 0.0]]), table).tolist()
    [True, False]
  """
  if not table.has_rows:
    return jnp.ones(len(table.scale), bool)
  best = _logits(beta, table).argmax(-1)
  chosen = jnp.take_along_axis(jnp.asarray(table.codes), best[:, None, None], 1)
  return (chosen > 0).any((0, 1))


def beta_entropy(beta: Float[AnyArray, 'R K'], table: TopologyTable) -> Float[Array, '']:
  """Returns the mean entropy of the rows, in nats.

  Args:
    beta: the topology logits.
    table: the table.

  Returns:
    A scalar; 0 without rows.

  Example:
    >>> table = output_pairs(snas.CellGraph(3))
    >>> float(beta_entropy(jnp.zeros(table.mask.shape), table)) > 0
    True
  """
  if not table.has_rows:
    return jnp.zeros(())
  log_probs = jax.nn.log_softmax(_logits(beta, table), axis=-1)
  terms = jnp.where(table.mask, jnp.exp(log_probs) * log_probs, 0.0)
  return -terms.sum(-1).mean()


def _logits(beta: Float[AnyArray, 'R K'], table: TopologyTable) -> Float[Array, 'R K']:
  return jnp.where(table.mask, jnp.asarray(beta), _MASKED)


def _entering(num_edges: int) -> Int[np.ndarray, 'S M']:
  """Returns the edges that enter each intermediate node, a row each, filled up with `num_edges`.

  Edges stand by destination, so the edges of a node are a run. Each run has one edge more than the
  run before. The first run has an edge for each input. So the numbers of edges are those of a
  triangle with one input, and with two inputs smaller by 1; no number is both.
  """
  rows = math.isqrt(2 * num_edges)
  num_inputs = 1 if rows * (rows + 1) == 2 * num_edges else 2
  nodes = math.isqrt(2 * num_edges + num_inputs) - num_inputs + 1
  runs = np.cumsum([0, *range(num_inputs, nodes + num_inputs)])
  columns = np.arange(nodes + num_inputs - 1)
  return np.where(columns < np.diff(runs)[:, None], runs[:-1, None] + columns, num_edges)
