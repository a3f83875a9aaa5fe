import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

from stretchnas_jax.cells import graph, space
from stretchnas_jax.networks import supernet
from stretchnas_jax.networks.forms import edge_groups

DARTS = space.DARTS_PRIMITIVES


def furthest(a, b):
  """The largest distance between two leaves, relative to the norm of the tree's largest leaf."""
  scale = max(float(jnp.linalg.norm(x.ravel())) for x in jax.tree.leaves(b))
  distance = lambda x, y: float(jnp.linalg.norm((x - y).ravel()))
  own = lambda x, y: distance(x, y) / max(float(jnp.linalg.norm(y.ravel())), 1e-3 * scale)
  return max(jax.tree.leaves(jax.tree.map(own, a, b)))


def fan_case(key, names, edges, channels, size, batch, stride, dtype):
  """(params, x, weights) of a fan and a cotangent of its output."""
  keys = iter(jax.random.split(key, 40))
  normal = lambda *shape: jax.random.normal(next(keys), shape, dtype)
  params = {}
  for name in names:
    if supernet.is_convolution(name):
      k, stages = int(name[-1]), 2 if name.startswith('sep') else 1
      params[name] = {
        'depthwise': normal(edges, stages, channels, k, k) / k,
        'pointwise': normal(edges, stages, channels, channels) / channels**0.5,
      }
    if name == 'skip_connect' and stride == 2:
      params[name] = {'pointwise': normal(edges, 1, channels, channels) / channels**0.5}
  weights = {name: abs(normal(edges)) + 0.1 for name in names}
  half = -(-size // stride)
  return (params, normal(batch, size, size, channels), weights), normal(
    edges, batch, half, half, channels
  )


def reference_fan(params, x, weights, stride):
  edges = len(next(iter(weights.values())))
  flat = {f'{n}_{kind}': a for n, arrays in params.items() for kind, a in arrays.items()}
  if 'skip_connect' in params:
    flat['skip_connect'] = params['skip_connect']['pointwise']
  return jnp.stack(
    [
      sum(w[e] * reference.operation(name, flat, e, x, stride) for name, w in weights.items())
      for e in range(edges)
    ]
  )


def own_fan(form, params, x, weights, stride):
  """The fan of a cell's second input."""
  layout, add_fans = supernet.FORMS[form]
  targets = range(2, 2 + len(next(iter(weights.values()))))
  fans = edge_groups.Fans(1, tuple((1, target) for target in targets), 0, stride)
  nodes = [layout.enter(x)] * 2 + [0.0] * len(targets)
  nodes, _ = add_fans(fans, params, nodes, weights, 1.0, None, None)
  return jnp.stack([layout.leave(node) for node in nodes[2:]])


merged_fan, planes_fan = (functools.partial(own_fan, form) for form in ('merged', 'planes'))


def outputs_and_gradients(fan, case, cotangent, stride):
  def run(case, cotangent):
    y, vjp = jax.vjp(lambda *case: fan(*case, stride), *case)
    return y, vjp(cotangent)

  return jax.jit(run)(case, cotangent)


FANS = [  # names, edges, channels, size, batch, stride
  (DARTS[1:], 2, 4, 16, 3, 1),
  (DARTS[1:], 2, 6, 8, 3, 2),
  (('sep_conv_7x7', 'dil_conv_3x3', 'skip_connect'), 2, 4, 8, 2, 1),
  (('avg_pool_3x3', 'sep_conv_3x3'), 2, 4, 12, 2, 2),
  (('max_pool_3x3',), 1, 4, 2, 5, 1),
  (('sep_conv_3x3',), 3, 64, 4, 2, 1),  # more channels than `merged` has in one convolution
]


@pytest.mark.parametrize('names, edges, channels, size, batch, stride', FANS)
@pytest.mark.parametrize('x64', [False, True], ids=['float32', 'float64'])
def test_fans_equal_the_reference(names, edges, channels, size, batch, stride, x64):
  with jax.enable_x64(x64):
    dtype = jnp.float64 if x64 else jnp.float32
    case = fan_case(jax.random.key(edges), names, edges, channels, size, batch, stride, dtype)
    expected = outputs_and_gradients(reference_fan, *case, stride)
    bound = 1e-10 if x64 else 1e-5
    for fan in (merged_fan, planes_fan):
      assert furthest(outputs_and_gradients(fan, *case, stride), expected) < bound, fan


@pytest.mark.parametrize('size', [7, 9])
@pytest.mark.parametrize('stride', [1, 2])
def test_fans_take_odd_sizes(size, stride):
  case = fan_case(jax.random.key(0), DARTS[1:], 2, 4, size, 3, stride, jnp.float32)
  expected = outputs_and_gradients(reference_fan, *case, stride)
  for fan in (merged_fan, planes_fan):
    assert furthest(outputs_and_gradients(fan, *case, stride), expected) < 1e-5, fan


def network_case(net, image_shape, dtype, batch=4):
  images = jax.random.normal(jax.random.key(1), (batch, *image_shape), dtype)
  params = jax.tree.map(
    lambda x: x.astype(dtype), jax.jit(net.init)(jax.random.key(0), images)['params']
  )
  keys = iter(jax.random.split(jax.random.key(2), 4))
  shape = len(net.space.graph.edges), len(net.space.primitives)
  cells = supernet.CELL_TYPES
  op_weights = {c: jax.nn.softmax(jax.random.normal(next(keys), shape, dtype)) for c in cells}
  scores = {c: jax.random.uniform(next(keys), shape[:1], dtype, 0.2, 1.2) for c in cells}
  return params, images, op_weights, scores


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
    net = supernet.Supernet(space.darts_space(2, with_none=True), 4, 3, 3, dtype=dtype)
    case = network_case(net, (16, 16, 1), dtype, batch=5)
    stats = jax.eval_shape(net.init, jax.random.key(0), case[1])['batch_stats']
    stats = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), stats)

    def ours(form, params, *args):
      variables = {'params': params, 'batch_stats': stats}
      return net.clone(form=form).apply(variables, *args, train=True, mutable=['batch_stats'])[0]

    expected = loss_and_gradients(functools.partial(reference.supernet, net), *case)
    for form in ('merged', 'planes'):
      found = loss_and_gradients(functools.partial(ours, form), *case)
      assert furthest(found, expected) < (1e-10 if x64 else 1e-5), form


def test_where_no_weight_learns_only_the_gradients_of_depthwise_kernels_are_left_out():
  net = supernet.Supernet(space.darts_space(2), 4, 3, 3, form='planes')
  case = network_case(net, (8, 8, 3), jnp.float32)
  stats = jax.jit(net.init)(jax.random.key(0), case[1])['batch_stats']

  @jax.jit
  def run(learning):
    def apply(params, *args):
      variables = {'params': params, 'batch_stats': stats}
      options = {'train': True, 'learning': learning, 'mutable': ['batch_stats']}
      return net.apply(variables, *args, **options)[0]

    return loss_and_gradients(apply, *case)

  (value, (params, *arch)), (value_without, (params_without, *arch_without)) = map(run, (1.0, 0.0))
  assert furthest((value_without, arch_without), (value, arch)) < 1e-6
  leaves = jax.tree_util.tree_leaves_with_path(params)
  assert len(leaves) == len(jax.tree.leaves(params_without))
  for (path, gradient), without in zip(leaves, jax.tree.leaves(params_without)):
    if 'depthwise' in jax.tree_util.keystr(path):
      assert np.abs(gradient).max() > 0 and not without.any(), path
    else:
      assert furthest(without, gradient) < 1e-6, path


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_remat_changes_memory_and_no_result(form):
  net = supernet.Supernet(space.darts_space(2), 4, 3, 3, form=form)
  params, *args = network_case(net, (8, 8, 3), jnp.float32)
  stats = jax.jit(net.init)(jax.random.key(0), args[0])['batch_stats']

  def run(net):
    def loss(params):
      variables = {'params': params, 'batch_stats': stats}
      logits, updated = net.apply(variables, *args, train=True, mutable=['batch_stats'])
      return (logits**2).sum(), updated

    # What the second half of a gradient is given by the first.
    kept = jax.eval_shape(lambda params: jax.vjp(loss, params, has_aux=True)[1], params)
    found = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return found, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))

  (expected, kept), (found, with_remat) = run(net), run(net.clone(remat=True))
  assert furthest(found, expected) < 1e-5
  assert with_remat < kept / 2, (with_remat, kept)


def test_darts_supernet_has_the_published_number_of_weights():
  net = supernet.Supernet(space.darts_space(4, with_none=True), 16, 8, 10)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
  assert sum(x.size for x in jax.tree.leaves(shapes['params'])) == 1_930_618


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_evaluation_uses_running_averages(form):
  """After many updates from one batch, evaluation mode gives that batch's training logits."""
  net = supernet.Supernet(space.darts_space(1), 4, 1, 3, form=form)
  images = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
  variables = jax.jit(net.init)(jax.random.key(0), images)
  train = jax.jit(lambda v: net.apply(v, images, train=True, mutable=['batch_stats']))
  for _ in range(200):
    logits, updated = train(variables)
    variables = variables | updated
  np.testing.assert_allclose(jax.jit(net.apply)(variables, images), logits, atol=2e-4)


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_bfloat16_stays_near_and_keeps_float32_state(form):
  net = supernet.Supernet(space.darts_space(1), 4, 1, 3, form=form)
  case = network_case(net, (8, 8, 3), jnp.float32)

  def run(net):
    variables = jax.jit(net.init)(jax.random.key(0), case[1])
    apply = lambda v: net.apply(v, *case[1:], train=True, mutable=['batch_stats'])
    return variables, jax.jit(apply)(variables)

  _, (expected, _) = run(net)
  variables, (logits, updated) = run(net.clone(dtype=jnp.bfloat16))
  assert {x.dtype for x in jax.tree.leaves((variables, logits, updated))} == {jnp.dtype('float32')}
  np.testing.assert_allclose(logits, expected, atol=0.05)


class Halving(nn.Module):
  """A user's own operation."""

  channels: int
  stride: int

  @nn.compact
  def __call__(self, x, train):
    return nn.Conv(self.channels, (1, 1), (self.stride, self.stride), use_bias=False)(x)


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_a_users_operation_is_mixed_in_on_every_edge(form):
  own = space.SearchSpace(graph.CellGraph(2), ('own', 'skip_connect'))
  net = supernet.Supernet(own, 4, 2, 3, form=form, operations={'own': Halving})
  images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  variables = jax.jit(net.init)(jax.random.key(0), images)
  names = {k for k in variables['params']['cell_0'] if k.startswith('own')}
  assert names == {f'own_{src}_{dst}' for src, dst in own.graph.edges}

  def loss(params):
    logits, _ = net.apply(
      variables | {'params': params}, images, train=True, mutable=['batch_stats']
    )
    return (logits**2).sum()

  gradients = jax.jit(jax.grad(loss))(variables['params'])
  assert all(float(abs(g).max()) > 0 for g in jax.tree.leaves(gradients['cell_0']['own_0_2']))


@pytest.mark.parametrize(
  'change, words',
  [
    ({'channels': 5}, 'channels is 5'),
    ({'channels': 0}, 'channels is 0'),
    ({'num_layers': 0}, 'num_layers is 0'),
    ({'form': 'fast'}, "form is 'fast'"),
    ({'space': space.SearchSpace(graph.CellGraph(2), ('skip_connect', 'mine'))}, "'mine'"),
  ],
)
def test_wrong_arguments_are_named(change, words):
  with pytest.raises(ValueError, match=words):
    supernet.Supernet(
      **{'space': space.darts_space(2), 'channels': 4, 'num_layers': 2, 'num_classes': 3} | change
    )
