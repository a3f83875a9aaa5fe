"""Partial channels, allowed operations, auxiliary skips, drops: both forms and the reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from small_networks import first_variables

from stretchnas_jax.cells import graph, space
from stretchnas_jax.networks import sizes, supernet
from stretchnas_jax.networks.cell_inputs import CellInputs
from stretchnas_jax.networks.cell_plan import CellPlan
from stretchnas_jax.networks.forms import draws as draws_lib
from stretchnas_jax.networks.forms import partial_channels
from stretchnas_jax.networks.search_cell import FORMS, SearchCell

FEW = ('none', 'max_pool_3x3', 'skip_connect', 'dil_conv_3x3')
MORE = (*FEW[1:], 'sep_conv_3x3')
KINDS = dict(zip(space.CELL_TYPES, (False, True)))


def masks(names, nodes, seed=0):
  """Allowed operations at random; each edge has one."""
  rng, edges = np.random.default_rng(seed), len(graph.CellGraph(nodes).edges)
  found = {}
  for kind in space.CELL_TYPES:
    mask = rng.random((edges, len(names))) < 0.4
    mask[np.arange(edges), rng.integers(len(names), size=edges)] = True
    found[kind] = mask
  return found


def small(names, nodes=2, allowed=None):
  return space.SearchSpace(graph.CellGraph(nodes), names, allowed)


def agree(plan, options, channels=8, side=(9, 8), batch=3, **more):
  """One cell in both forms and its reference in float64, values and all gradients."""
  with jax.enable_x64(True):
    rng, edges = np.random.default_rng(1), len(plan.edges)
    s0, s1 = (rng.normal(size=(batch, *side, 6)) for _ in range(2))
    weights = rng.random((edges, plan.space.num_operations))
    scores = rng.random(edges) + 0.2
    cell = SearchCell(plan, channels, False, 'merged')
    variables = first_variables(cell, s0, s1, CellInputs(weights, scores), dtype=np.float64)

    def ours(form, params, s0, s1, weights, scores):
      layout, given = FORMS[form].layout, variables | {'params': params}
      inputs = CellInputs(weights, scores, **more)
      call = functools.partial(cell.clone(form=form).apply, mutable=['batch_stats'])
      y, _ = call(given, layout.enter(s0), layout.enter(s1), inputs, True)
      return layout.leave(y)

    def plain(params, s0, s1, weights, scores):
      return reference.cell(
        params, plan.space, s0, s1, weights, scores, plan.reduction, False, options=options
      )

    def run(function):
      def loss(*args):
        y = function(*args)
        return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

      grad = jax.value_and_grad(loss, (0, 1, 2, 3, 4), has_aux=True)
      return jax.jit(grad)(variables['params'], s0, s1, weights, scores)

    expected = run(plain)
    for form in FORMS:
      assert reference.furthest(run(functools.partial(ours, form)), expected) < 1e-9, form


@pytest.mark.parametrize('kind', KINDS)
def test_partial_channels_equal_the_reference(kind):
  agree(CellPlan(small(FEW), KINDS[kind], partial_channels=4), reference.Options(4))


def test_allowed_operations_equal_the_reference():
  allowed = masks(MORE, 2)
  agree(CellPlan(small(MORE, 2, allowed), True), reference.Options(allowed=allowed))


def test_partial_channels_without_an_operation_that_edges_share():
  agree(CellPlan(small(('dil_conv_3x3',), 1), True, partial_channels=2), reference.Options(2))


KEY = jax.random.key(7)
RATE = 0.4


def factors(key, draw, batch):
  """A draw for each image of a batch."""
  return jnp.stack([draw(jax.random.fold_in(key, position)) for position in range(batch)])


def skip_factors(layer, e, x):
  """Dropout as `Supernet` and its cells draw it, for layer 0."""
  del layer
  key = jax.random.fold_in(jax.random.fold_in(KEY, e), 0)
  drawn = factors(key, lambda key: jax.random.uniform(key, x.shape[1:]), len(x))
  return jnp.where(drawn < RATE, 0, 1 / (1 - RATE))


def test_everything_together_equals_the_reference():
  """Partial channels, allowed operations, an auxiliary skip, dropped edges, dropout of skips."""
  names, nodes = FEW[1:], 2
  allowed = masks(names, nodes)
  allowed['reduce'][-1] = [True, True, False]  # a skip connection at stride 1
  drops = np.random.default_rng(2).random((5, 3))
  plan = CellPlan(small(names, nodes, allowed), True, True, 2)

  def edge_factors(layer, e):
    return drops[plan.order[e]]

  options = reference.Options(2, allowed, 0.3, edge_factors, skip_factors)
  with jax.enable_x64(True):
    draws = draws_lib.Draws(KEY, jnp.arange(3), jnp.asarray(RATE))
    more = {'auxiliary_skip': 0.3, 'edge_drop': jnp.asarray(drops), 'draws': draws}
  agree(plan, options, **more)


# ---- shuffles ------------------------------------------------------------------------------------


def test_a_shuffle_is_the_one_of_pc_darts():
  channels = jnp.arange(16.0).reshape(1, 1, 1, 16)
  shuffled = partial_channels.shuffle(channels, 4, -1)
  assert shuffled[0, 0, 0, :6].tolist() == [0, 4, 8, 12, 1, 5]
  assert jnp.array_equal(partial_channels.shuffle(shuffled, 4, -1), channels)
  three = partial_channels.shuffle(channels[..., :12], 3, -1)
  assert jnp.array_equal(partial_channels.unshuffle(three, 3, -1), channels[..., :12])
  # The outputs of the operations, which come first, land on channels 0, K, 2 K, ...
  assert [int(jnp.argmax(three[0, 0, 0] == c)) for c in range(4)] == [0, 3, 6, 9]


# ---- weights of search networks, from the code of the authors ------------------------------------

DARTS = space.darts_space(4, with_none=True)
# S1, edges in DARTS' order. i: skip, m and a: pools, s: separable, d: dilated.
S1 = {
  'normal': 'i3 i5 i5 is i3 mi is is i3 is mi i3 35 35',
  'reduce': 'ma m3 ma ma i5 ma ms i3 i5 ma ma i5 i5 i5',
}
LETTERS = {
  'm': 'max_pool_3x3', 'a': 'avg_pool_3x3', 'i': 'skip_connect', 's': 'sep_conv_3x3',
  '3': 'dil_conv_3x3', '5': 'dil_conv_5x5',
}  # fmt: skip


def s1_masks():
  place = DARTS.primitives.index
  found = {kind: np.zeros((14, 8), bool) for kind in S1}
  for kind, edges in S1.items():
    for e, pair in enumerate(edges.split()):
      found[kind][e, [place(LETTERS[letter]) for letter in pair]] = True
  return found


@pytest.mark.parametrize(
  'names, fields, count',
  [
    (DARTS.primitives, {'partial_channels': 4}, 299_578),  # PC-DARTS
    (DARTS.primitives, {'partial_channels': 4, 'num_classes': 100}, 322_708),
    (DARTS.primitives, {'num_layers': 5}, 1_275_834),  # P-DARTS, first stage
    (DARTS.primitives, {'final_norm': True}, 1_931_130),  # DOTS
    (DARTS.primitives, {'auxiliary_skip': True}, 1_971_578),  # DARTS-
    (DARTS.primitives[1:], {'channels': 36, 'num_layers': 20, 'partial_channels': 6}, 2_221_750),
    (DARTS.primitives[1:], {'channels': 36, 'num_layers': 20, 'partial_channels': 4}, 2_986_462),
    (('skip_connect', 'sep_conv_3x3'), {}, 665_466),  # S2
    (('none', 'skip_connect', 'sep_conv_3x3'), {}, 665_466),  # S3
    (('noise', 'sep_conv_3x3'), {}, 624_506),  # S4
  ],
)
def test_weights_as_the_authors_have_them(names, fields, count):
  sizes_of = {'channels': 16, 'num_layers': 8, 'num_classes': 10} | fields
  assert sizes.count_supernet_params(small(names, 4), **sizes_of) == count


def test_weights_of_allowed_operations_alone():
  found = sizes.count_supernet_params(
    small(DARTS.primitives, 4, s1_masks()), channels=16, num_layers=8, num_classes=10
  )
  assert found == 405_146


def test_channels_that_k_does_not_divide_are_refused():
  with pytest.raises(ValueError, match='partial_channels is 3; it must divide channels, 16'):
    supernet.Supernet(DARTS, 16, 8, 10, partial_channels=3)
  with pytest.raises(ValueError, match="operation 'bypass'; choose another name"):
    supernet.Supernet(small(('bypass',)), 4, 1, 3)
