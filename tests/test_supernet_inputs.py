"""Weights of each layer, dropped edges and skips, noise, and operations that are left out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from small_networks import first_variables, images

from stretchnas_jax.cells import graph, space
from stretchnas_jax.networks import supernet
from stretchnas_jax.networks.cell_inputs import CellInputs
from stretchnas_jax.networks.cell_plan import CellPlan
from stretchnas_jax.networks.search_cell import FORMS, SearchCell

LIGHT = space.SearchSpace(graph.CellGraph(2), ('max_pool_3x3', 'skip_connect'))
KEY = jax.random.key(7)
BATCH, RATE = 4, 0.4


def light(of=LIGHT, layers=1, form='merged'):
  """A network without convolutions on edges, by default one reduction cell: it compiles fast."""
  return supernet.Supernet(of, 4, layers, 3, form=form)


def case(net):
  """Variables, images, operation weights for each layer, and edge scores."""
  rng, x = np.random.default_rng(0), images(BATCH, 8, 8, 1)
  edges, operations = len(net.space.graph.edges), net.space.num_operations
  weights = {
    kind: rng.random((count, edges, operations)).astype(np.float32)
    for kind, count in (('normal', net.num_layers // 3), ('reduce', min(2, net.num_layers)))
  }
  scores = {kind: rng.random(edges).astype(np.float32) + 0.2 for kind in weights}
  return first_variables(net, x), x, weights, scores


def trained(net, variables, *args, **options):
  """The logits of a pass in training mode, and the running averages after it."""
  options = {'train': True, 'mutable': ['batch_stats']} | options
  return jax.jit(lambda v, *args: net.apply(v, *args, **options))(variables, *args)


def drawn(key, draw):
  return jax.vmap(lambda position: draw(jax.random.fold_in(key, position)))(jnp.arange(BATCH))


def test_each_layer_has_weights_of_its_own_and_batch_norm_stands_before_the_mean():
  net = light(layers=3).clone(final_norm=True)
  variables, *args = case(net)
  expected = jax.jit(functools.partial(reference.supernet, net))(variables['params'], *args)
  for form in ('merged', 'planes'):
    found, _ = trained(net.clone(form=form), variables, *args)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
  wrong = {'normal': np.ones((2, 5, 2), np.float32), 'reduce': args[1]['reduce']}
  with pytest.raises(ValueError, match=r"op_weights\['normal'\] .* \[2, 5, 2\]; .* \[1, 5, 2\]"):
    jax.eval_shape(lambda: net.apply(variables, args[0], wrong))


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_dropped_edges_and_skips_equal_the_reference(form):
  net = light(form=form)
  variables, *args = case(net)
  for_drop, for_maps = jax.random.split(KEY)
  by_source = sorted(range(5), key=LIGHT.graph.edges.__getitem__)

  def edge_factors(layer, e):
    draws = drawn(for_drop, lambda key: jax.random.uniform(key, (1, 5)))
    return jnp.where(draws[:, layer, by_source[e]] < RATE, 0, 1 / (1 - RATE))

  def skip_factors(layer, e, x):
    key = jax.random.fold_in(jax.random.split(for_maps, 1)[layer], e)
    draws = drawn(jax.random.fold_in(key, 0), lambda key: jax.random.uniform(key, x.shape[1:]))
    return jnp.where(draws < RATE, 0, 1 / (1 - RATE))

  options = reference.Options(edge_factors=edge_factors, skip_factors=skip_factors)
  plain = functools.partial(reference.supernet, net, options=options)
  expected = jax.jit(plain)(variables['params'], *args)
  rates = {'edge_drop': RATE, 'skip_dropout': RATE}
  found, _ = trained(net, variables, *args, knobs=rates, key=KEY)
  np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
  # At 0 both change nothing, and neither is there in an evaluation.
  without, _ = trained(net, variables, *args)
  zeros, _ = trained(net, variables, *args, knobs=dict.fromkeys(rates, 0.0), key=KEY)
  np.testing.assert_allclose(zeros, without, rtol=1e-5, atol=1e-6)
  assert abs(found - without).max() > 0.01
  evaluated = jax.jit(lambda: net.apply(variables, *args, knobs=rates))()
  np.testing.assert_array_equal(evaluated, jax.jit(lambda: net.apply(variables, *args))())
  with pytest.raises(ValueError, match='the knob skip_dropout needs a key'):
    jax.eval_shape(lambda: net.apply(variables, *args, train=True, knobs=rates))


def test_one_device_and_four_draw_the_same():
  net = light(space.SearchSpace(LIGHT.graph, (*LIGHT.primitives, 'noise')))
  variables, x, *args = case(net)
  options = {'knobs': {'edge_drop': RATE, 'skip_dropout': RATE}, 'key': KEY}
  one, _ = trained(net, variables, x, *args, **options)

  def part(x):
    run = net.clone(axis_name='data').apply
    return run(variables, x, *args, train=True, mutable=['batch_stats'], **options)[0]

  four = jax.pmap(part, 'data')(x.reshape(4, 1, 8, 8, 1))
  np.testing.assert_allclose(four.reshape(one.shape), one, rtol=1e-4, atol=1e-5)


def test_noise_is_the_same_in_both_forms_and_there_in_an_evaluation():
  of = space.SearchSpace(LIGHT.graph, ('noise', 'skip_connect'))
  net = light(of)
  variables, x, *args = case(net)

  def run(form, x, key):
    def loss(weights):
      options = {'train': True, 'mutable': ['batch_stats'], 'key': key}
      logits, _ = net.clone(form=form).apply(variables, x, weights, args[1], **options)
      return (logits**2).sum(), logits

    return jax.jit(jax.grad(loss, has_aux=True))(args[0])

  merged, planes = (run(form, x, KEY) for form in ('merged', 'planes'))
  assert reference.furthest(planes, merged) < 1e-4
  assert float(abs(merged[0]['reduce'][..., 0]).max()) > 0
  assert float(abs(run('merged', x, jax.random.key(8))[1] - merged[1]).max()) > 0.01
  evaluate = jax.jit(net.apply)
  found = evaluate(variables, x, *args)
  np.testing.assert_array_equal(found, evaluate(variables, x, *args))
  quiet = {kind: weights * np.float32([0, 1]) for kind, weights in args[0].items()}
  assert abs(found - evaluate(variables, x, quiet, args[1])).max() > 0.01


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_an_auxiliary_skip_at_stride_1_is_a_larger_weight_of_the_skip(form):
  rng, s = np.random.default_rng(0), images(BATCH, 8, 8, 12)
  weights = rng.random((5, 2)).astype(np.float32)
  scores = rng.random(5).astype(np.float32)
  plain, with_skip = (
    SearchCell(CellPlan(LIGHT, False, auxiliary), 4, False, form) for auxiliary in (False, True)
  )
  inputs = CellInputs(weights, scores)
  s = FORMS[form].layout.enter(jnp.asarray(s))
  variables = first_variables(plain, s, s, inputs)  # no further ones: a skip is the node itself

  def run(cell, inputs):
    apply = lambda: cell.apply(variables, s, s, inputs, True, mutable=['batch_stats'])[0]
    return jax.jit(apply)()

  larger = inputs._replace(op_weights=weights + np.float32([0, 0.3]))
  found = run(with_skip, inputs._replace(auxiliary_skip=0.3))
  np.testing.assert_allclose(found, run(plain, larger), rtol=1e-5, atol=1e-6)
  without = run(with_skip, inputs._replace(auxiliary_skip=0.0))
  np.testing.assert_allclose(without, run(plain, inputs), rtol=1e-6, atol=1e-7)
  assert abs(found - without).max() > 0.1


ONE_OF_MANY = space.SearchSpace(
  graph.CellGraph(1), ('max_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'dil_conv_3x3')
)


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_operations_without_weight_are_left_out(form):
  """Values and gradients stay; the averages of batch norms that did not run stay as they were."""
  net = supernet.Supernet(ONE_OF_MANY, 4, 1, 3, form=form)
  x = images(3, 8, 8, 1)
  variables = first_variables(net, x)
  chosen = {'reduce': np.eye(4, dtype=np.float32)[[2, 1]], 'normal': np.zeros((2, 4), np.float32)}

  def run(net):
    def loss(params):
      given = variables | {'params': params}
      logits, after = net.apply(given, x, chosen, train=True, mutable=['batch_stats'])
      return (logits**2).sum(), after['batch_stats']['cell_0']['norms']

    return jax.jit(jax.grad(loss, has_aux=True))(variables['params'])

  (expected, dense), (found, sparse) = run(net), run(net.clone(sparse=True))
  assert reference.furthest(found, expected) < 1e-5
  first = variables['batch_stats']['cell_0']['norms']
  for name, rows in {'sep_conv_3x3': [0], 'sep_conv_3x3_first': [0], 'skip_connect': [1]}.items():
    for e in range(2):
      same = dense if e in rows else first
      np.testing.assert_allclose(sparse[name]['var'][e], same[name]['var'][e], rtol=1e-5)
  np.testing.assert_array_equal(sparse['dil_conv_3x3']['mean'], first['dil_conv_3x3']['mean'])


def test_operations_are_left_out_on_all_devices_alike():
  of = space.SearchSpace(graph.CellGraph(1), ('skip_connect', 'dil_conv_3x3'))
  net = supernet.Supernet(of, 2, 1, 3, form='planes', sparse=True)
  x = images(4, 4, 4, 1)
  variables = first_variables(net, x)
  chosen = {'reduce': np.eye(2, dtype=np.float32), 'normal': np.eye(2, dtype=np.float32)}

  def part(net, x):
    run = functools.partial(net.apply, variables, train=True, mutable=['batch_stats'])
    return run(x, chosen)

  one, averages = jax.jit(functools.partial(part, net))(x)
  on_four = jax.pmap(functools.partial(part, net.clone(axis_name='data')), 'data')
  four, averages_on_four = on_four(x.reshape(4, 1, 4, 4, 1))
  np.testing.assert_allclose(four.reshape(one.shape), one, rtol=1e-4, atol=1e-5)
  first = jax.tree.map(lambda leaf: leaf[0], averages_on_four)
  assert reference.furthest(first, averages) < 1e-5
