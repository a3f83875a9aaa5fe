"""The one place where the names in a config become objects, and the list of allowed names."""

import jax.numpy as jnp

from stretchnas_jax.cells import relaxation, space, topology
from stretchnas_jax.data.datasets import encoded, loading, splits
from stretchnas_jax.learning import bilevel, optimizers, training
from stretchnas_jax.machine import parallel
from stretchnas_jax.networks import network, stems_and_heads, supernet

TOPOLOGIES = {
  'none': lambda graph, c: topology.none(graph, by=c.by or 'target', k=c.k),
  'input_pairs': lambda graph, c: topology.input_pairs(graph),
  'output_pairs': lambda graph, c: topology.output_pairs(graph),
  'output_subsets': lambda graph, c: topology.output_subsets(graph, include_empty=c.include_empty),
  'k_subsets': lambda graph, c: topology.k_subsets(graph, c.k, by=c.by or 'source'),
}

RELAXATIONS = {'softmax': lambda c: relaxation.softmax(c.temperature)}

RULES = {
  'first_order': lambda c: bilevel.first_order(),
  'second_order': lambda c: bilevel.second_order(),
  'exact_second_order': lambda c: bilevel.exact_second_order(),
  'mixed': lambda c: bilevel.mixed(c.val_weight),
  'one_level': lambda c: bilevel.one_level(),
}

SCHEDULES = {
  'cosine': lambda c, epochs, per_epoch: optimizers.cosine(
    epochs * per_epoch, c.learning_rate, c.final_learning_rate
  ),
  'linear': lambda c, epochs, per_epoch: optimizers.linear(
    epochs * per_epoch, c.learning_rate, c.final_learning_rate
  ),
  'exponential': lambda c, epochs, per_epoch: optimizers.exponential(
    per_epoch, c.learning_rate, c.decay
  ),
}

DTYPES = ('float32', 'bfloat16')

# The allowed names of each config field that holds a name, read off the module that uses them.
CHOICES = {
  'data.name': (*loading.NAMES, encoded.IMAGENET),
  'data.split': splits.SPLITS,
  'data.on_bad_image': loading.ON_BAD_IMAGE,
  'model.stem': stems_and_heads.STEMS,
  'model.form': ('auto', *supernet.FORMS),
  'model.dtype': DTYPES,
  'topology.kind': tuple(TOPOLOGIES),
  'topology.by': topology.SIDES,
  'relaxation.kind': tuple(RELAXATIONS),
  'rule.kind': tuple(RULES),
  'weights.schedule': tuple(SCHEDULES),
  'parallel.backend': parallel.BACKENDS,
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
    stem=config.model.stem,
    form=config.model.form,
    remat=config.model.remat,
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
    relaxation=RELAXATIONS[config.relaxation.kind](config.relaxation),
    image_shape=image_shape,
    unroll=config.search.unroll,
  )
  return net, table, search


def train_parts(config, genotype, *, num_classes, image_shape, steps_per_epoch):
  """(net, training) of a validated training config.

  Args:
    config: a training config.
    genotype: the cells.
    num_classes: of the data set.
    image_shape: `(H, W, C)`.
    steps_per_epoch: for the schedules of the learning rate and of drop path.
  """
  net = fixed_network(config, genotype, num_classes)
  weights, epochs = config.weights, config.train.epochs
  schedule = SCHEDULES[weights.schedule](weights, epochs, steps_per_epoch)
  return net, training.make_training(
    net,
    optimizers.clipped_sgd(
      optimizers.with_warmup(schedule, weights.warmup_epochs * steps_per_epoch),
      momentum=weights.momentum,
      weight_decay=weights.weight_decay,
      clip_norm=weights.clip_norm,
    ),
    image_shape=image_shape,
    auxiliary_weight=config.train.auxiliary_weight,
    drop_path=config.train.drop_path,
    label_smoothing=config.train.label_smoothing,
    steps_per_epoch=steps_per_epoch,
    epochs=epochs,
  )


def fixed_network(config, genotype, num_classes):
  """The network of a training config."""
  model = config.model
  return network.FixedNetwork(
    genotype,
    model.channels,
    model.num_layers,
    num_classes,
    model.stem,
    model.auxiliary,
    dtype=jnp.dtype(model.dtype),
  )
