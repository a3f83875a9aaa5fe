"""The one place where config strings become objects."""

import jax.numpy as jnp

from stretchnas_jax.architecture import relaxation, space, topology
from stretchnas_jax.models import supernet
from stretchnas_jax.optimization import bilevel, optimizers

TOPOLOGIES = {
  'none': lambda graph, c: topology.none(graph, by=c.by or 'target'),
  'input_pairs': lambda graph, c: topology.input_pairs(graph),
  'output_pairs': lambda graph, c: topology.output_pairs(graph),
  'output_subsets': lambda graph, c: topology.output_subsets(graph, include_empty=c.include_empty),
  'k_subsets': lambda graph, c: topology.k_subsets(graph, c.k, by=c.by or 'source'),
}

RELAXATIONS = {'softmax': relaxation.softmax}

RULES = {
  'first_order': lambda c: bilevel.first_order(),
  'second_order': lambda c: bilevel.second_order(),
  'exact_second_order': lambda c: bilevel.exact_second_order(),
  'mixed': lambda c: bilevel.mixed(c.val_weight),
  'one_level': lambda c: bilevel.one_level(),
}


def search_parts(config, *, num_classes, image_shape, num_steps):
  """(net, table, search) of a validated search config.

  Args:
    config: a search config.
    num_classes: of the data set.
    image_shape: `(H, W, C)`.
    num_steps: of the whole search, for the schedule of the learning rate.
  """
  net = supernet.Supernet(
    space.darts_space(config.space.num_intermediate, with_none=config.space.with_none),
    config.model.channels,
    config.model.num_layers,
    num_classes,
    form=config.model.form,
    dtype=jnp.dtype(config.model.dtype),
  )
  table = TOPOLOGIES[config.topology.kind](net.space.graph, config.topology)
  search = bilevel.make_search(
    net,
    table,
    RULES[config.rule.kind](config.rule),
    weights_tx=optimizers.weights_tx(num_steps, **config.weights),
    arch_tx=optimizers.arch_tx(**config.alpha),
    beta_tx=optimizers.arch_tx(**config.beta),
    virtual_tx=optimizers.weights_tx(num_steps, **{**config.weights, 'clip_norm': None}),
    penalty_weight=config.topology.penalty_weight,
    relax=RELAXATIONS[config.relaxation.kind],
    temperature=config.relaxation.temperature,
    image_shape=image_shape,
    unroll=config.search.unroll,
  )
  return net, table, search
