"""Passes for alpha and beta as one batch: the numbers of passes in turn, and where it may be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_batch, random_state, tiny_search

from stretchnas_jax.cells import space, topology
from stretchnas_jax.config import search_config
from stretchnas_jax.learning import bilevel, optimizers
from stretchnas_jax.networks.supernet import Supernet
from stretchnas_jax.runs import axes, build, search_task


def network(form='merged', **options):
  return Supernet(space.darts_space(1), 2, 1, 3, form=form, **options)


def test_every_operation_gives_the_gradients_of_passes_in_turn(key):
  """In float64; batch norms take the moments of each pass apart."""
  net = network(dtype=jnp.float64)
  table = topology.output_subsets(net.space.graph)
  with jax.enable_x64(True):
    batch = jax.tree.map(
      lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, random_batch(key)
    )
    steps = [
      bilevel.make_search(
        net, table, bilevel.mixed(0.5), weights_tx=optimizers.weights_tx(10),
        arch_tx=optax.sgd(1.0), image_shape=(8, 8, 1), **form,
      )
      for form in ({'unroll': True}, {'together': True})
    ]  # fmt: skip
    state = random_state(steps[0])
    state = jax.tree.map(
      lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )
    in_turn, together = (jax.jit(search.step)(state, batch, key)[0].arch for search in steps)
  # The only cell of a network of one layer is a reduction cell.
  for moved, before in zip(together, state.arch, strict=True):
    assert np.abs(moved['reduce'] - before['reduce']).max() > 1e-4
  chex.assert_trees_all_close(together, in_turn, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
  'platform, changes, form, expected',
  [
    ('gpu', {}, 'merged', True),
    ('tpu', {}, 'merged', False),
    ('tpu', {'search.passes': 'together'}, 'merged', True),
    ('cpu', {}, 'merged', False),
    ('cpu', {'search.passes': 'together'}, 'merged', True),
    ('gpu', {'search.passes': 'in_turn'}, 'merged', False),
    ('gpu', {}, 'planes', False),
    ('gpu', {'search.unroll': True}, 'merged', False),
    ('gpu', {'rule.kind': 'second_order'}, 'merged', False),
    ('gpu', {'rule.kind': 'one_level'}, 'merged', False),
  ],
)
def test_a_gpu_runs_passes_together_where_it_can(platform, changes, form, expected):
  config = search_config()
  config.update_from_flattened_dict(changes)
  assert axes.passes_together(config, None, network(form), platform) == expected


@pytest.mark.parametrize(
  'changes, options, says',
  [
    ({'search.unroll': True}, {}, 'search.unroll=True'),
    ({'rule.kind': 'exact_second_order'}, {}, 'a rule of second order'),
    ({}, {'form': 'planes'}, 'the form planes'),
    ({}, {'sparse': True}, 'a relaxation of which only'),
  ],
)
def test_where_passes_cannot_run_together_a_reason_says_why(changes, options, says):
  config = search_config()
  config.update_from_flattened_dict({'search.passes': 'together', **changes})
  assert says in axes.why_in_turn(config, None, network(**options))
  assert not axes.passes_together(config, None, network(**options), 'gpu')


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='about CPUs')
def test_a_plan_is_refused_and_a_search_of_a_gpu_loads_on_a_cpu():
  """There its form is another, and no step runs."""
  config = tiny_search(**{'search.passes': 'together', 'model.form': 'auto'})
  with pytest.raises(ValueError, match='passes is together; it does not go with the form planes'):
    search_task.plan_search(config)
  objects = build.search_objects(config, num_classes=10, image_shape=(8, 8, 1), num_steps=2)
  assert objects.net.form == 'planes'


def test_an_own_rule_decides_in_place_of_that_of_the_config():
  config = search_config()
  own = lambda loss_fn, params, arch, batch: arch
  assert not axes.passes_together(config, own, network(), 'gpu')
