"""The search network: both forms against the reference, its modes, and its messages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from small_networks import first_variables

from stretchnas_jax.cells import graph, space
from stretchnas_jax.networks import supernet

# One operation of each kind; `test_edge_groups` has all of them. Each one more compiles longer.
FEW = ('none', 'max_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'dil_conv_5x5')


def small(nodes, names=FEW):
  return space.SearchSpace(graph.CellGraph(nodes), names)


def network_case(net, image_shape, dtype=jnp.float32, batch=4):
  """(variables, images, operation weights, edge scores) of a network."""
  rng = np.random.default_rng(1)
  images = jnp.asarray(rng.normal(size=(batch, *image_shape)), dtype)
  variables = first_variables(net, images, dtype=dtype)
  edges, operations = len(net.space.graph.edges), len(net.space.primitives)
  # Drawn by NumPy, so that no draw compiles.
  op_weights = {
    c: jnp.asarray(rng.dirichlet(np.ones(operations), edges), dtype) for c in supernet.CELL_TYPES
  }
  scores = {c: jnp.asarray(rng.uniform(0.2, 1.2, edges), dtype) for c in supernet.CELL_TYPES}
  return variables, images, op_weights, scores


def loss_and_gradients(apply, params, images, op_weights, scores):
  labels = jnp.arange(len(images)) % 3

  def loss(params, op_weights, scores):
    logits = apply(params, images, op_weights, scores)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

  return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(params, op_weights, scores)


@pytest.mark.parametrize('x64', [False, True], ids=['float32', 'float64'])
def test_networks_equal_the_reference(x64):
  with jax.enable_x64(x64):
    dtype = jnp.float64 if x64 else jnp.float32
    # In float32, which is the weaker test, fewer edges and no pool. Each has one kind of
    # convolution. `test_edge_groups` has every operation in float32.
    names = FEW[:3] + FEW[4:] if x64 else FEW[2:4]
    net = supernet.Supernet(small(2 if x64 else 1, names), 4, 3, 3, dtype=dtype)
    variables, *args = network_case(net, (12, 12, 1), dtype, batch=5)
    case = variables['params'], *args

    def ours(form, params, *args):
      given = variables | {'params': params}
      return net.clone(form=form).apply(given, *args, train=True, mutable=['batch_stats'])[0]

    expected = loss_and_gradients(functools.partial(reference.supernet, net), *case)
    for form in ('merged', 'planes'):
      found = loss_and_gradients(functools.partial(ours, form), *case)
      assert reference.furthest(found, expected) < (1e-10 if x64 else 1e-5), form


def test_where_no_weight_learns_only_the_gradients_of_depthwise_kernels_are_left_out():
  net = supernet.Supernet(small(2, FEW[1:]), 4, 1, 3, form='planes')
  variables, *args = network_case(net, (8, 8, 3))

  @jax.jit
  def run(learning):
    def apply(params, *args):
      options = {'train': True, 'learning': learning, 'mutable': ['batch_stats']}
      return net.apply(variables | {'params': params}, *args, **options)[0]

    return loss_and_gradients(apply, variables['params'], *args)

  (value, (params, *arch)), (value_without, (params_without, *arch_without)) = map(run, (1.0, 0.0))
  assert reference.furthest((value_without, arch_without), (value, arch)) < 1e-6
  leaves = jax.tree_util.tree_leaves_with_path(params)
  assert len(leaves) == len(jax.tree.leaves(params_without))
  for (path, gradient), without in zip(leaves, jax.tree.leaves(params_without)):
    if 'depthwise' in jax.tree_util.keystr(path):
      assert np.abs(gradient).max() > 0 and not without.any(), path
    else:
      assert reference.furthest(without, gradient) < 1e-6, path


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_remat_changes_memory_and_no_result(form):
  net = supernet.Supernet(small(1, FEW[2:4]), 4, 2, 3, form=form)
  variables, *args = network_case(net, (8, 8, 3))
  params = variables['params']

  def run(net):
    def loss(params):
      given = variables | {'params': params}
      logits, updated = net.apply(given, *args, train=True, mutable=['batch_stats'])
      return (logits**2).sum(), updated

    # The arrays that the first half of a gradient keeps for the second.
    kept = jax.eval_shape(lambda params: jax.vjp(loss, params, has_aux=True)[1], params)
    found = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return found, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))

  (expected, kept), (found, with_remat) = run(net), run(net.clone(remat=True))
  assert reference.furthest(found, expected) < 1e-5
  assert with_remat < kept / 2, (with_remat, kept)


def test_darts_supernet_has_the_published_number_of_weights():
  net = supernet.Supernet(space.darts_space(4, with_none=True), 16, 8, 10)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
  assert sum(x.size for x in jax.tree.leaves(shapes['params'])) == 1_930_618


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_evaluation_uses_running_averages(form):
  """After many updates from one batch, evaluation mode gives that batch's training logits."""
  net = supernet.Supernet(small(1, FEW[1:4]), 4, 1, 3, form=form, batch_norm='plain')
  variables, images, *_ = network_case(net, (8, 8, 3), batch=6)
  train = jax.jit(lambda v: net.apply(v, images, train=True, mutable=['batch_stats']))
  for _ in range(200):
    logits, updated = train(variables)
    variables = variables | updated
  np.testing.assert_allclose(jax.jit(net.apply)(variables, images), logits, atol=2e-4)


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_bfloat16_stays_near_and_keeps_float32_state(form):
  net = supernet.Supernet(small(1, FEW[1:4]), 4, 1, 3, form=form)
  variables, *args = network_case(net, (8, 8, 3))

  def run(net):
    apply = lambda v: net.apply(v, *args, train=True, mutable=['batch_stats'])
    return jax.jit(apply)(variables)

  expected, _ = run(net)
  half = net.clone(dtype=jnp.bfloat16)
  logits, updated = run(half)
  first = jax.eval_shape(half.init, jax.random.key(0), args[0])
  assert {x.dtype for x in jax.tree.leaves((first, logits, updated))} == {jnp.dtype('float32')}
  np.testing.assert_allclose(logits, expected, atol=0.05)


@pytest.mark.parametrize(
  'change, words',
  [
    ({'channels': 5}, 'channels is 5'),
    ({'channels': 0}, 'channels is 0'),
    ({'num_layers': 0}, 'num_layers is 0'),
    ({'form': 'fast'}, "form is 'fast'"),
    ({'space': space.SearchSpace(graph.CellGraph(2), ('skip_connect', 'mine'))}, "'mine'"),
    ({'space': space.SearchSpace(graph.CellGraph(2, 1), ('skip_connect',))}, 'has num_inputs=1'),
  ],
)
def test_wrong_arguments_are_named(change, words):
  with pytest.raises(ValueError, match=words):
    supernet.Supernet(
      **{'space': space.darts_space(2), 'channels': 4, 'num_layers': 2, 'num_classes': 3} | change
    )


GOOD = {'normal': (5, 7), 'reduce': (5, 7)}  # edges and operations of DARTS' space of two nodes


@pytest.mark.parametrize(
  'weights, scores, words',
  [
    ({'normal': (5, 7)}, None, "op_weights has no 'reduce'; it must have normal and reduce"),
    (
      GOOD | {'reduce': (5, 8)},
      None,
      r"op_weights\['reduce'\] has the shape \[5, 8\]; .* \[5, 7\]",
    ),
    (
      GOOD,
      {'normal': (5,), 'reduce': (4,)},
      r"edge_scores\['reduce'\] has the shape \[4\]; .* \[5\]",
    ),
  ],
)
def test_wrong_weights_and_scores_are_named(weights, scores, words, unchecked):
  net = supernet.Supernet(space.darts_space(2), 4, 1, 3)
  images, variables = jnp.zeros((2, 8, 8, 3)), {}
  given = [
    shapes and {k: jnp.ones(shape) for k, shape in shapes.items()} for shapes in (weights, scores)
  ]
  with pytest.raises(ValueError, match=words):
    jax.eval_shape(lambda: net.apply(variables, images, *given))
