"""The evaluation of a search: of its supernet, or of one cell with the weights of the supernet."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jax import lax
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.learning import losses
from stretchnas_jax.learning.search_parts import SearchParts
from stretchnas_jax.learning.state import SearchState


class Mixture(NamedTuple):
  """The numbers of one cell, in the place of `state.arch` in an evaluation.

  Attributes:
    op_weights: by cell type.
    edge_scores: by cell type.
  """

  op_weights: dict[str, Float[AnyArray, 'E O']]
  edge_scores: dict[str, Float[AnyArray, ' E']]


def mixture_of(space: SearchSpace, cell: Mapping[str, Any]) -> Mixture:
  """Returns the mixture that computes a decoded cell alone: its weights and scores are 0 or 1.

  Args:
    space: the search space.
    cell: as `Genotype.to_dict` has it; its edges and operations are those of the space.
  """
  edges, names = list(space.graph.edges), list(space.primitives)
  weights, scores = {}, {}
  for kind in space.cell_types:
    weights[kind] = np.zeros((len(edges), len(names)), np.float32)
    for op, *ends in cell[kind]:
      weights[kind][edges.index(tuple(ends)), names.index(op)] = 1
    scores[kind] = weights[kind].max(1)
  return Mixture(weights, scores)


def evaluate(
  parts: SearchParts,
  state: SearchState,
  examples: Examples,
  valid: Float[AnyArray, ' B'],
  axis_name: str | None,
) -> dict[str, Float[Array, '']]:
  """Returns the sums of one batch of an evaluation, over all devices.

  Args:
    parts: of the search.
    state: of the search. Where its `arch` is a `Mixture`, the cell of the mixture is measured.
    examples: the batch.
    valid: 1 for each example that counts.
    axis_name: the parallel axis, or None.
  """
  if isinstance(state.arch, Mixture):
    logits = _cell_logits(parts, state, state.arch, examples, axis_name)
  else:
    logits = _logits(parts, state, examples)
  sums = losses.evaluation_sums(logits, examples.labels, valid)
  return sums if axis_name is None else lax.psum(sums, axis_name)


def _logits(parts: SearchParts, state: SearchState, examples: Examples) -> Float[Array, 'B K']:
  knobs = parts.knobs_after(state.step, state.control)
  op_weights, edge_scores = parts.mixture(state.arch, knobs, state.control)
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  return parts.net.apply(
    variables, examples.images, op_weights, edge_scores, **parts.network_inputs(knobs)
  )


def _cell_logits(
  parts: SearchParts,
  state: SearchState,
  mixture: Mixture,
  examples: Examples,
  axis_name: str | None,
) -> Float[Array, 'B K']:
  """Returns the logits of a cell alone, with the weights of the supernet.

  The running averages are those of the mixture, whose feature maps are smaller. So each batch is
  normalised by its own moments. Nothing is dropped, and no auxiliary skip is added.
  """
  has_skip = getattr(parts.net, 'auxiliary_skip', False)
  logits, _ = parts.net.clone(axis_name=axis_name).apply(
    {'params': state.params, 'batch_stats': state.batch_stats},
    examples.images,
    *mixture,
    train=True,
    mutable=['batch_stats'],
    **({'knobs': {'auxiliary_skip': 0.0}} if has_skip else {}),
  )
  return logits
