"""Which operations fall: the strongest k of an edge, gates below a threshold, rankings."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from stretchnas_jax.cells.arrays import AnyArray

_Masks = dict[str, Bool[np.ndarray, 'E O']]


def strongest(
  strength: Float[AnyArray, 'E O'],
  allowed: Bool[AnyArray, 'E O'],
  k: int,
  primitives: Sequence[str],
) -> Bool[np.ndarray, 'E O']:
  """Returns the mask of the k strongest allowed operations of each edge.

  Of equal ones the first stay. Where `none` alone would be left, it falls first, as P-DARTS does
  before it decodes (Chen et al. 2019).

  Args:
    strength: by which the operations are ranked.
    allowed: the operations that may stay.
    k: how many stay; an edge with fewer keeps them all.
    primitives: the names of the operations.

  Returns:
    The new mask.
  """
  allowed, ranked = np.asarray(allowed), np.where(allowed, np.asarray(strength), -np.inf)
  if k == 1 and 'none' in primitives:
    others = allowed.copy()
    others[:, list(primitives).index('none')] = False
    ranked = np.where(others, ranked, -np.inf)
  order = np.argsort(-ranked, axis=1, kind='stable')[:, :k]
  kept = np.zeros_like(allowed)
  np.put_along_axis(kept, order, True, axis=1)
  return kept & allowed


def strongest_of_groups(
  strength: Float[AnyArray, 'E O'],
  allowed: Bool[AnyArray, 'E O'],
  groups: Sequence[Sequence[int]],
) -> Bool[np.ndarray, 'E O']:
  """Returns the mask of the strongest operation of each group, on each edge (Gu et al. 2021).

  Args:
    strength: by which the operations are ranked.
    allowed: the operations that may stay.
    groups: places of operations.

  Returns:
    The new mask.
  """
  allowed, ranked = np.asarray(allowed), np.where(allowed, np.asarray(strength), -np.inf)
  kept = np.zeros_like(allowed)
  for group in groups:
    places = np.array(group)
    best = places[ranked[:, places].argmax(1)]
    kept[np.arange(len(kept)), best] = True
  return kept & allowed


class Pruning(NamedTuple):
  """How operations fall in gradual pruning; the constants are ours, see `monitors.prune`.

  Attributes:
    count: so many of the weakest fall after an epoch, where their gates are below `below`.
    below: the threshold of these.
    always: every operation below this gate falls.
    step: the first step by which the weight of the cost grows.
    floor: the search stops where the cell costs no more; 0 for never.
    may_empty: whether an edge may lose all of its operations.
  """

  count: int = 4
  below: float = 0.05
  always: float = 0.01
  step: float = 1e-5
  floor: float = 0.0
  may_empty: bool = True


def pruned(
  rule: Pruning,
  gates: Mapping[str, Float[AnyArray, 'E O']],
  allowed: Mapping[str, AnyArray],
  from_input: Bool[np.ndarray, ' E'],
) -> tuple[_Masks, int]:
  """Returns the masks after an epoch, and how many operations fell.

  The weakest ones are found over both cell types. The strongest operation on the edges from the
  inputs of a cell never falls, so that a cell can be decoded. Nor does the last one of an edge,
  unless the rule allows that.

  Args:
    rule: how many fall, and when.
    gates: by cell type.
    allowed: by cell type, the operations that are still there.
    from_input: whether each edge comes from an input of the cell.

  Returns:
    The new masks, and the number of operations that fell.
  """
  masks = {c: np.array(mask, bool) for c, mask in allowed.items()}
  active = sorted(
    (float(gates[c][e, o]), i, int(e), int(o), c)
    for i, (c, mask) in enumerate(masks.items())
    for e, o in zip(*np.nonzero(mask))
  )
  fell = 0
  for gate, _, e, o, c in active:
    due = gate < rule.always or (fell < rule.count and gate < rule.below)
    others = masks[c][from_input] if from_input[e] else masks[c]
    room = others.sum() if rule.may_empty else masks[c][e].sum()
    if due and room > 1:
      masks[c][e, o] = False
      fell += 1
  return masks, fell


def next_weight(rule: Pruning, fell: int, weight: float, step: float) -> tuple[float, float]:
  """Returns the weight of the cost after an epoch, and the step by which it grows next.

  Where fewer than `rule.count` operations fell, the weight grows by the step, and the step by its
  first value. Else the weight stays, and the step is its first value again.

  Args:
    rule: has the first step.
    fell: the number of operations that fell.
    weight: of the cost.
    step: by which it grows.

  Returns:
    The new weight, and the new step.
  """
  if fell < rule.count:
    return weight + step, step + rule.step
  return weight, rule.step


def ranking_checksum(strength: Float[AnyArray, 'E O'], places: Sequence[int]) -> int:
  """Returns a number of 31 bits that changes with the ranking of operations on any edge.

  Args:
    strength: by which the operations are ranked.
    places: of the operations that are ranked.

  Returns:
    A whole number of at least 0.
  """
  order = np.argsort(np.asarray(strength)[:, list(places)], axis=1, kind='stable')
  return zlib.crc32(order.astype(np.int8).tobytes()) & 0x7FFFFFFF
