"""The arrays with which a cell of the search network mixes its operations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.networks.cell_plan import CellPlan
from stretchnas_jax.networks.forms.draws import Draws
from stretchnas_jax.networks.forms.edge_groups import (
  AUXILIARY_SKIP,
  BYPASS,
  DROPPED_SKIP,
  EdgeGroup,
  Extras,
)


class CellInputs(NamedTuple):
  """The weights of a cell's mixtures; only few searches need the last three.

  Attributes:
    op_weights: `[E, O]`, float32, edges in DARTS' order.
    edge_scores: `[E]`, float32.
    auxiliary_skip: the weight of the auxiliary skip connections.
    edge_drop: `[E, B]`, a factor of each edge for each image, edges in DARTS' order; None for 1.
    draws: of random maps; its `keys` are one key, for all edges of the cell.
  """

  op_weights: Float[AnyArray, 'E O']
  edge_scores: Float[AnyArray, 'E']
  auxiliary_skip: Float[AnyArray, ''] | float = 1.0
  edge_drop: Float[Array, 'E B'] | None = None
  draws: Draws | None = None

  def weights(self, plan: CellPlan) -> Float[Array, 'E O']:
    """Returns the operation weights times the edge scores, edges by source."""
    scored = jnp.asarray(self.op_weights) * jnp.asarray(self.edge_scores)[:, None]
    return scored[plan.order]

  def columns(self, plan: CellPlan, group: EdgeGroup) -> dict[str, Float[Array, '_']]:
    """Returns the weights of a group's operations, each times the edge scores.

    Args:
      plan: of the cell.
      group: some of its edges.
    """
    weights, scores = self.weights(plan), jnp.asarray(self.edge_scores)[plan.order]
    columns = {}
    for name, places in plan.columns_of(group).items():
      rows = group.rows if len(places) == len(group.edges) else np.array(places)
      if name == AUXILIARY_SKIP:
        columns[name] = scores[rows] * self.auxiliary_skip
      else:
        column = weights[rows, plan.space.primitives.index(name)]
        columns[DROPPED_SKIP if self._drops(name, group) else name] = column
    if plan.partial_channels > 1:
      columns[BYPASS] = scores[group.rows]
    return columns

  def active(self, plan: CellPlan) -> dict[str, Float[Array, 'E']]:
    """Returns for each operation, edges by source, 1 where its weight is not exactly 0."""
    active = jax.lax.stop_gradient(jnp.asarray(self.op_weights)) != 0
    active = active[plan.order].astype(jnp.float32)
    return {name: active[:, o] for o, name in enumerate(plan.space.primitives)}

  def extras(self, plan: CellPlan, group: EdgeGroup, sparse: bool) -> Extras:
    """Returns the arrays of a group that few searches need.

    Args:
      plan: of the cell.
      group: some of its edges.
      sparse: whether operations whose weight is 0 are left out.
    """
    active = edge_drop = draws = None
    if sparse:
      whole, columns = self.active(plan), plan.columns_of(group)
      active = {n: whole[n][np.array(places)] for n, places in columns.items() if n in whole}
    if self.edge_drop is not None:
      edge_drop = self.edge_drop[plan.order][group.rows]
    if self.draws is not None:
      places = np.arange(len(plan.edges))[group.rows]
      keys = jax.vmap(jax.random.fold_in, (None, 0))(self.draws.keys, places)
      draws = self.draws._replace(keys=keys)
    return Extras(active, edge_drop, draws)

  def _drops(self, name: str, group: EdgeGroup) -> bool:
    """Whether the edges of a group have an operation with dropout."""
    dropout = self.draws is not None and self.draws.rate is not None
    return dropout and name == 'skip_connect' and group.stride == 1


def uniform_weights(space: SearchSpace) -> dict[str, Float[Array, 'E O']]:
  """Returns equal weights of the operations that each edge may have, and 0 for all others.

  Args:
    space: the search space.

  Returns:
    The weights by cell type.
  """
  shape, found = (len(space.graph.edges), space.num_operations), {}
  for cell in space.cell_types:
    allowed = space.allowed_on(cell)
    if allowed is None:
      found[cell] = jnp.full(shape, 1 / space.num_operations)
    else:
      found[cell] = jnp.asarray(allowed / allowed.sum(1, keepdims=True), jnp.float32)
  return found
