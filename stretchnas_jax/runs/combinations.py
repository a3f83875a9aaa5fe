"""The choices on the axes of a search that mean nothing together, each with the reason.

Every other combination runs. A researcher's own object on an axis is never refused.
"""

from collections.abc import Callable
from typing import NamedTuple

from stretchnas_jax.config import ConfigDict
from stretchnas_jax.runs.parts import Parts

_HARD = ('gdas', 'straight_through')
_WITHOUT_TEMPERATURE = ('sigmoid', 'dirichlet')
_SECOND_ORDER = ('second_order', 'exact_second_order')


class _Refusal(NamedTuple):
  """A combination that means nothing.

  Attributes:
    axes: the fields of `Parts` on which an own object lifts the refusal.
    applies: whether a config has the combination.
    says: the fields that do not fit, and why.
  """

  axes: tuple[str, ...]
  applies: Callable[[ConfigDict], bool]
  says: Callable[[ConfigDict], str]


_REFUSALS = (
  _Refusal(
    ('relaxation', 'rule'),
    lambda c: c.relaxation.kind in _HARD and c.rule.kind in _SECOND_ORDER,
    lambda c: (
      f'rule.kind={c.rule.kind} with relaxation.kind={c.relaxation.kind}: the sampled weights do '
      'not change with alpha, so that the loss has no second derivative; take first_order, mixed '
      'or one_level'
    ),
  ),
  _Refusal(
    ('rule',),
    lambda c: c.rule.kind == 'second_order' and c.model.dtype == 'bfloat16',
    lambda c: (
      'rule.kind=second_order with model.dtype=bfloat16: it moves the weights by less than '
      'bfloat16 can tell, so that its difference of two gradients is rounding; take '
      'exact_second_order, or float32'
    ),
  ),
  _Refusal(
    ('relaxation',),
    lambda c: (
      c.relaxation.kind in _WITHOUT_TEMPERATURE
      and (c.relaxation.temperature != 1 or c.relaxation.annealing != 'constant')
    ),
    lambda c: (
      f'a temperature with relaxation.kind={c.relaxation.kind}: nothing in it is divided by a '
      'temperature; leave relaxation.temperature at 1 and annealing constant'
    ),
  ),
  _Refusal(
    ('relaxation',),
    lambda c: c.penalty.logsumexp > 0 and c.relaxation.kind == 'sigmoid',
    lambda c: (
      'penalty.logsumexp with relaxation.kind=sigmoid: it holds back the largest weight of a '
      'softmax, and gates do not compete; take zero_one'
    ),
  ),
  _Refusal(
    ('relaxation',),
    lambda c: (c.penalty.logsumexp > 0 or c.penalty.kl > 0) and c.relaxation.kind == 'groups',
    lambda c: (
      'penalty.logsumexp or penalty.kl with relaxation.kind=groups: both need one softmax or one '
      'distribution for each edge'
    ),
  ),
  _Refusal(
    ('relaxation',),
    lambda c: c.penalty.kl > 0 and c.relaxation.kind != 'dirichlet',
    lambda c: (
      f'penalty.kl with relaxation.kind={c.relaxation.kind}: it measures a Dirichlet distribution, '
      'which only relaxation.kind=dirichlet has'
    ),
  ),
  _Refusal(
    ('relaxation', 'topology', 'decoding'),
    lambda c: (
      c.relaxation.kind == 'groups' and not c.relaxation.balance and c.topology.kind == 'none'
    ),
    lambda c: (
      'relaxation.kind=groups with topology.kind=none: operations of different groups do not '
      'compete, so that their weights rank no edges; choose a topology, or relaxation.balance=True'
    ),
  ),
  _Refusal(
    ('rule',),
    lambda c: c.data.split == 'one_way' and c.rule.kind != 'one_level',
    lambda c: (
      f'data.split=one_way with rule.kind={c.rule.kind}: this rule needs validation images for '
      'alpha and beta; take rule.kind=one_level or another split'
    ),
  ),
  _Refusal(
    ('rule',),
    lambda c: c.rule.weights_first and c.rule.kind == 'one_level',
    lambda c: (
      'rule.weights_first with rule.kind=one_level: weights, alpha and beta move at the same time '
      'there'
    ),
  ),
  _Refusal(
    ('topology', 'decoding'),
    lambda c: c.decoding.kind == 'all_edges' and c.topology.kind != 'none',
    lambda c: (
      f'decoding.kind=all_edges with topology.kind={c.topology.kind}: it keeps edges whatever beta '
      'has learned; take decoding.kind=auto or topology.kind=none'
    ),
  ),
  _Refusal(
    ('space',),
    lambda c: c.space.name == 's1' and c.space.num_intermediate != 4,
    lambda c: (
      f'space.num_intermediate={c.space.num_intermediate} with space.name=s1: its operations are '
      'given for the 14 edges of 4 nodes'
    ),
  ),
  _Refusal(
    ('space',),
    lambda c: c.model.auxiliary_skip and c.space.name == 's4',
    lambda c: (
      'model.auxiliary_skip with space.name=s4: the auxiliary skip relieves a skip connection '
      'among the operations, and this space has none'
    ),
  ),
  _Refusal(
    ('relaxation', 'space'),
    lambda c: c.relaxation.per_layer and c.model.num_layers < 3 and c.space.name != 'nas_bench_201',
    lambda c: (
      f'relaxation.per_layer with model.num_layers={c.model.num_layers}: all of these cells are '
      'reduction cells, and a normal cell would have no logits; take at least 3 cells'
    ),
  ),
  _Refusal(
    (),
    lambda c: c.penalty.logsumexp > 0 and c.penalty.logsumexp_growth == 'exponential',
    lambda c: (
      'penalty.logsumexp with penalty.logsumexp_growth=exponential: the weight begins at 0, from '
      'which no factor leads away; take linear'
    ),
  ),
  _Refusal(
    (),
    lambda c: c.model.auxiliary_skip and c.model.auxiliary_annealing == 'exponential',
    lambda c: (
      'model.auxiliary_skip with model.auxiliary_annealing=exponential: the skip ends at 0, which '
      'no factor reaches; take linear_beyond'
    ),
  ),
  _Refusal(
    (),
    lambda c: c.search.warmup_epochs >= c.search.epochs,
    lambda c: (
      f'search.warmup_epochs={c.search.warmup_epochs} with search.epochs={c.search.epochs}: alpha '
      'and beta would never move; make the warm-up shorter'
    ),
  ),
)


def check(config: ConfigDict, parts: Parts) -> None:
  """Raises ValueError, in one sentence, for choices that mean nothing together.

  Args:
    config: a checked search config, or that of its last phase.
    parts: the researcher's own objects.
  """
  for refusal in _REFUSALS:
    own = any(getattr(parts, axis) is not None for axis in refusal.axes)
    if not own and refusal.applies(config):
      raise ValueError(f'config has {refusal.says(config)}')
