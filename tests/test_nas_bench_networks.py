"""The networks of NAS-Bench-201."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from small_networks import first_variables

from stretchnas_jax.cells import space
from stretchnas_jax.cells.nas_bench_201 import EDGES, Cell
from stretchnas_jax.networks import costs, sizes
from stretchnas_jax.networks.forms.draws import Draws
from stretchnas_jax.networks.layers import Style
from stretchnas_jax.networks.nas_bench_network import NasBenchNetwork
from stretchnas_jax.networks.nas_bench_search_cell import CellExtras, NasBenchSearchCell
from stretchnas_jax.networks.nas_bench_supernet import FORMS, NasBenchSupernet
from stretchnas_jax.networks.supernet import Supernet

SPACE = space.nas_bench_201()
NAMES = SPACE.primitives
CELLS = (
  ('nor_conv_3x3', 'none', 'skip_connect', 'avg_pool_3x3', 'nor_conv_1x1', 'nor_conv_3x3'),
  ('skip_connect', 'nor_conv_1x1', 'none', 'none', 'avg_pool_3x3', 'none'),
)


def images(seed=0, size=8):
  return jax.random.normal(jax.random.key(seed), (4, size, size, 3))


# ---- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('name, params', [('nor_conv_3x3', 1_531_546), ('skip_connect', 73_306)])
def test_the_network_of_a_cell_has_the_published_number_of_weights(name, params):
  net = NasBenchNetwork(Cell((name,) * 6), 16, 5, 10)
  assert costs.trace_costs(net, (32, 32, 3)).params == params


def test_the_supernet_has_the_published_number_of_weights():
  assert costs.count_params(NasBenchSupernet(SPACE, 16, 5, 10), (32, 32, 3)) == 1_692_826
  sized = sizes.count_supernet_params(SPACE, channels=16, num_layers=5, num_classes=10)
  assert sized == 1_692_826
  with pytest.raises(ValueError, match='take NasBenchSupernet'):
    Supernet(SPACE, 16, 5, 10)


def test_multiply_adds_are_counted_as_published():
  net = NasBenchNetwork(Cell(('nor_conv_3x3',) * 6), 16, 5, 10)
  assert costs.trace_costs(net, (32, 32, 3)).macs == 220_119_680


# ---- values --------------------------------------------------------------------------------------


def plain_cell(params, x, weights, scores, partial=1):
  """One cell, edge by edge, from the definition; batch norms take the moments of the batch."""
  width = x.shape[-1] // partial

  def norm(y):
    return (y - y.mean((0, 1, 2))) / jnp.sqrt(y.var((0, 1, 2)) + 1e-5)

  def conv(name, edge, x):
    side = int(name[-1])
    return lax.conv_general_dilated(
      jnp.maximum(x, 0), params[name][edge], (1, 1), [(side // 2,) * 2] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )  # fmt: skip

  def pool(x):
    add = lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), 'SAME')
    return add(x) / add(jnp.ones_like(x))

  def operation(name, edge, x):
    if name == 'none':
      return jnp.zeros_like(x)
    if name == 'skip_connect':
      return x
    return pool(x) if name == 'avg_pool_3x3' else norm(conv(name, edge, x))

  nodes = {0: x}
  for node in (1, 2, 3):
    total = 0
    for edge, (src, dst) in enumerate(EDGES):
      if dst == node:
        seen, rest = nodes[src][..., :width], nodes[src][..., width:]
        mixture = sum(weights[edge, o] * operation(n, edge, seen) for o, n in enumerate(NAMES))
        total += scores[edge] * jnp.concatenate([mixture, rest], -1)
    order = [g * width + c for c in range(width) for g in range(partial)]
    nodes[node] = total[..., np.array(order)]
  return nodes[3]


@pytest.mark.parametrize(
  'form, partial',
  [
    ('merged', 2), ('planes', 4),
    *[pytest.param(form, 1, marks=pytest.mark.long) for form in ('merged', 'planes')],
  ],
)  # fmt: skip
def test_a_search_cell_is_the_plain_cell_with_its_gradients(form, partial):
  keys = jax.random.split(jax.random.key(1), 4)
  weights = jax.nn.softmax(jax.random.normal(keys[0], (6, 5)))
  scores = jax.random.uniform(keys[1], (6,), minval=0.5)
  x, layout = jax.random.normal(keys[3], (4, 6, 6, 8)), FORMS[form]
  net = NasBenchSearchCell(SPACE, 8, Style(layout=layout), partial)
  variables = first_variables(net, layout.enter(x), weights, scores)

  def cell(params, x, weights, scores):
    given = {'params': params, 'batch_stats': variables['batch_stats']}
    y, _ = net.apply(given, layout.enter(x), weights, scores, True, mutable=['batch_stats'])
    return layout.leave(y)

  def pass_and_gradients(cell, *args):
    y, pull = jax.vjp(cell, *args)
    return y, pull(jnp.arange(x.size).reshape(x.shape) / x.size)

  plain = lambda *args: plain_cell(*args, partial)
  args = variables['params'], x, weights, scores
  found, wanted = (jax.jit(pass_and_gradients, static_argnums=0)(f, *args) for f in (cell, plain))
  np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found[1], wanted[1]
  )


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_auxiliary_skips_and_dropped_edges_are_other_weights(form):
  layout = FORMS[form]
  x = layout.enter(jax.random.normal(jax.random.key(3), (4, 4, 4, 2)))
  weights, scores = jnp.arange(30.0).reshape(6, 5) / 30, jnp.arange(1.0, 7.0)
  net = NasBenchSearchCell(SPACE, 2, Style(layout=layout))
  variables = first_variables(net, x, weights, scores)

  nothing = {'auxiliary_skip': jnp.float32(0), 'edge_drop': jnp.ones((6, 4))}

  @jax.jit
  def apply(weights, scores, extras):
    more = CellExtras(**extras)
    return net.apply(variables, x, weights, scores, True, more, mutable=['batch_stats'])[0]

  def cell(weights, scores, **extras):
    return apply(weights, scores, nothing | extras)

  more_skip = weights.at[:, NAMES.index('skip_connect')].add(0.3)
  found = cell(weights, scores, auxiliary_skip=jnp.float32(0.3))
  np.testing.assert_allclose(found, cell(more_skip, scores), rtol=1e-5, atol=1e-5)
  drop = jnp.ones((6, 4)).at[4].set(0.0)
  found = cell(weights, scores, edge_drop=drop)
  np.testing.assert_allclose(found, cell(weights, scores.at[4].set(0.0)), rtol=1e-5, atol=1e-5)
  draws = Draws(jax.random.key(5), jnp.arange(4), jnp.float32(0.5))
  skips = jnp.zeros((6, 5)).at[:, NAMES.index('skip_connect')].set(1.0)
  only_last = jnp.zeros(6).at[EDGES.index((0, 3))].set(1.0)
  share = np.asarray(cell(skips, only_last, draws=draws)) / np.asarray(x)
  np.testing.assert_allclose(np.unique(share.round(4)), [0.0, 2.0], atol=1e-4)


@pytest.mark.parametrize('form', [pytest.param('merged', marks=pytest.mark.long), 'planes'])
def test_a_supernet_is_the_plain_macro_network_around_its_cells(form):
  net = NasBenchSupernet(SPACE, 4, 1, 3, form=form)
  variables = first_variables(net, images())
  weights, scores = jnp.arange(30.0).reshape(6, 5) / 60, jnp.arange(6.0) / 4
  given = {'normal': weights}, {'normal': scores}

  @jax.jit
  def both(variables, x):
    params = variables['params']
    apply_cell = lambda place, _, x: plain_cell(params[f'cell_{place}'], x, weights, scores)
    found, _ = net.apply(variables, x, *given, True, mutable=['batch_stats'])
    return found, plain_macro(params, x, apply_cell)

  np.testing.assert_allclose(*both(variables, images()), atol=1e-5)


def test_a_supernet_without_weights_mixes_the_allowed_operations_alone():
  allowed = np.array([[name == chosen for name in NAMES] for chosen in CELLS[0]])
  weights = {'normal': allowed.astype(np.float32)}
  net = NasBenchSupernet(space.SearchSpace(SPACE.graph, NAMES, {'normal': allowed}), 4, 1, 3)
  variables = first_variables(net, images())
  both = jax.jit(lambda x: [net.apply(variables, x, given) for given in (None, weights)])
  np.testing.assert_array_equal(*both(images()))


def plain_macro(params, x, apply_cell):
  """The macro network from its definition, channels last, with the moments of the batch."""

  def norm(y, of):
    y = (y - y.mean((0, 1, 2))) / jnp.sqrt(y.var((0, 1, 2)) + 1e-5)
    return y * of['scale'] + of['bias']

  def conv(x, of, stride=1):
    side = of['kernel'].shape[0]
    return lax.conv_general_dilated(
      x, of['kernel'], (stride, stride), [(side // 2,) * 2] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )  # fmt: skip

  x = norm(conv(x, params['stem']), params['stem_norm'])
  for stage in range(3):
    if stage:
      of = params[f'block_{stage}']
      y = norm(conv(jnp.maximum(x, 0), of['conv_a']['conv'], 2), of['conv_a']['norm'])
      y = norm(conv(jnp.maximum(y, 0), of['conv_b']['conv']), of['conv_b']['norm'])
      means = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
      x = conv(means, of['shortcut']) + y
    x = apply_cell(stage, x.shape[-1], x)
  x = jnp.maximum(norm(x, params['last_norm']), 0).mean((1, 2))
  return x @ params['classifier']['kernel'] + params['classifier']['bias']


@pytest.mark.parametrize('operations', CELLS)
def test_a_supernet_that_has_decided_is_the_network_of_its_cell(operations):
  supernet, net = NasBenchSupernet(SPACE, 4, 1, 3), NasBenchNetwork(Cell(operations), 4, 1, 3)
  x = images()
  variables, own = first_variables(supernet, x), first_variables(net, x, seed=1)
  params = {name: of for name, of in variables['params'].items() if name in own['params']}
  for place, channels in enumerate((4, 8, 16)):
    from_supernet = variables['params'][f'cell_{place}']
    params[f'cell_{place}'] = {
      f'edge_{src}_{dst}': {
        'conv': {'kernel': from_supernet[name][edge]},
        'norm': {'scale': np.ones(channels), 'bias': np.zeros(channels)},
      }
      for edge, ((src, dst), name) in enumerate(zip(EDGES, operations))
      if name.startswith('nor_conv')
    }
  weights = {
    'normal': jnp.array([[name == chosen for name in NAMES] for chosen in operations], float)
  }

  @jax.jit
  def both(variables, own):
    found = supernet.apply(variables, x, weights, None, True, mutable=['batch_stats'])[0]
    return found, net.apply(own, x, True, mutable=['batch_stats'])[0]

  np.testing.assert_allclose(*both(variables, {**own, 'params': params}), atol=2e-6)


def test_both_forms_of_a_network_agree_in_training_and_evaluation():
  nets = [NasBenchNetwork(Cell(CELLS[0]), 4, 1, 3, form=form) for form in ('plain', 'planes')]
  variables = first_variables(nets[0], images())

  @jax.jit
  def train(variables, x):
    return [net.apply(variables, x, True, mutable=['batch_stats']) for net in nets]

  found = train(variables, images())
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), *found)
  updated = {**variables, **found[0][1]}
  evaluate = jax.jit(lambda variables, x: [net.apply(variables, x) for net in nets])
  np.testing.assert_allclose(*evaluate(updated, images(1)), atol=2e-6)


def test_the_running_averages_of_a_supernet_are_the_moments_of_each_edge():
  net = NasBenchSupernet(SPACE, 4, 1, 3, batch_norm='plain')

  @jax.jit
  def moments(variables, x):
    seen, params = {}, variables['params']

    def remember(place, channels, x):
      of = params[f'cell_{place}']
      seen[place] = lax.conv_general_dilated(
        jnp.maximum(x, 0), of['nor_conv_3x3'][1], (1, 1), [(1, 1)] * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      )  # fmt: skip
      return plain_cell(of, x, jnp.full((6, 5), 0.2), jnp.ones(6))

    plain_macro(params, x, remember)
    return net.apply(variables, x, train=True, mutable=['batch_stats'])[1], seen

  updated, seen = moments(first_variables(net, images()), images())
  for place, y in seen.items():
    found = updated['batch_stats'][f'cell_{place}']['norms']['nor_conv_3x3']
    np.testing.assert_allclose(found['mean'][1], 0.1 * y.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(found['var'][1], 0.9 + 0.1 * y.var((0, 1, 2)), rtol=1e-5)


def init(net):
  return net.init(jax.random.key(0), images(size=6))


@pytest.mark.parametrize(
  'make, fault',
  [
    (lambda: init(NasBenchNetwork(Cell(CELLS[0]), 4, 1, 3)), 'sides that are multiples of 4'),
    (lambda: NasBenchSupernet(space.darts_space(), 4, 1, 3), 'has one input'),
    (lambda: NasBenchSupernet(SPACE, 6, 1, 3, partial_channels=4), 'multiple of partial_channels'),
  ],
)
def test_wrong_arguments_are_named(make, fault):
  with pytest.raises(ValueError, match=fault):
    make()
