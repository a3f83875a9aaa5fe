"""The one place where a config becomes objects, and the list of allowed names.

The members of the axes of a search stand in `axes`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells import topology
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.datasets import encoded, loading, splits
from stretchnas_jax.learning import bilevel, optimizers, training
from stretchnas_jax.machine import parallel
from stretchnas_jax.networks import (
  checks,
  running_averages,
  search_network,
  stems_and_heads,
  supernet,
  trained_network,
)
from stretchnas_jax.networks import sizes as sizes_lib
from stretchnas_jax.runs import axes, budgets
from stretchnas_jax.runs.parts import Parts

SCHEDULES = {
  'cosine': lambda c, epochs, per_epoch: optimizers.cosine(
    epochs * per_epoch, c.learning_rate, c.final_learning_rate
  ),
  'linear': lambda c, epochs, per_epoch: optimizers.linear(
    epochs * per_epoch, c.learning_rate, c.final_learning_rate
  ),
  'linear_tail': lambda c, epochs, per_epoch: optimizers.linear_tail(
    epochs, per_epoch, c.learning_rate
  ),
  'exponential': lambda c, epochs, per_epoch: optimizers.exponential(
    per_epoch, c.learning_rate, c.decay
  ),
}

# The learning rate changes after every step, or after every epoch.
_SCHEDULE_BY = ('step', 'epoch')
_PRECISIONS = ('default', 'high', 'highest')
_DTYPES = ('float32', 'bfloat16')

# The allowed names of each config field that holds a name, read off the module that uses them.
CHOICES = {
  'data.name': (*loading.NAMES, encoded.IMAGENET),
  'data.split': splits.SPLITS,
  'data.on_bad_image': loading.ON_BAD_IMAGE,
  'model.stem': stems_and_heads.STEMS,
  'model.form': ('auto', *supernet.FORMS),
  'model.dtype': _DTYPES,
  'model.precision': _PRECISIONS,
  'model.batch_norm': running_averages.RULES,
  **axes.CHOICES,
  'weights.schedule': tuple(SCHEDULES),
  'weights.schedule_by': _SCHEDULE_BY,
  'parallel.backend': parallel.BACKENDS,
  'parallel.seeds': ('beside', 'in_turn'),
}


class SearchObjects(NamedTuple):
  """The objects of a search.

  Attributes:
    net: the supernet.
    table: the topology table of both cell types.
    search: the search as pure functions.
  """

  net: search_network.SearchNetwork
  table: topology.TopologyTable
  search: bilevel.Search


class TrainObjects(NamedTuple):
  """The objects of a training.

  Attributes:
    net: the network.
    training: the training as pure functions.
    sizes: of the network, without the auxiliary head.
  """

  net: trained_network.TrainedNetwork
  training: training.Training
  sizes: sizes_lib.Sizes


def search_space(config: ConfigDict, parts: Parts) -> SearchSpace:
  """Builds the search space of a config.

  Args:
    config: a checked search config.
    parts: the researcher's own objects.
  """
  return parts.space or axes.SPACES[config.space.name](config.space)


def search_objects(
  config: ConfigDict,
  parts: Parts | None = None,
  *,
  num_classes: int,
  image_shape: tuple[int, ...],
  num_steps: int,
  steps_per_epoch: int = 1,
  phase_steps: int | None = None,
  platform: str | None = None,
) -> SearchObjects:
  """Builds the objects of a search.

  Args:
    config: a checked search config.
    parts: the researcher's own objects, each in place of an object that the config names.
    num_classes: of the data set.
    image_shape: `(H, W, C)`.
    num_steps: of the whole search, for the schedule of the learning rate.
    steps_per_epoch: for a schedule by epoch.
    phase_steps: of a phase, for its other timetables; None for `num_steps`.
    platform: 'cpu', 'gpu' or 'tpu', for the form of the network; None for that of this job.
  """
  parts = parts or Parts()
  cells = search_space(config, parts)
  mixing = parts.relaxation or axes.relaxation_of(config, cells)
  net = search_network.network_class(cells)(
    cells,
    config.model.channels,
    config.model.num_layers,
    num_classes,
    stem=config.model.stem,
    form=checks.form_of(config.model.form, 'merged', platform),
    operations=parts.operations,
    remat=config.model.remat,
    dtype=jnp.dtype(config.model.dtype),
    batch_norm=config.model.batch_norm,
    partial_channels=config.model.partial_channels,
    auxiliary_skip=config.model.auxiliary_skip,
    sparse=mixing.sparse,
    final_norm=config.model.final_norm,
  )
  table = parts.table(net.space.graph)
  if table is None:
    table = axes.TOPOLOGIES[config.topology.kind](net.space.graph, config.topology)
  schedule = {'num_steps': num_steps, 'steps_per_epoch': steps_per_epoch}
  search = bilevel.make_search(
    net,
    table,
    parts.rule or axes.rule_of(config),
    weights_tx=_own_tx(parts.weights_tx, num_steps)
    or _search_weights_tx(config.weights, **schedule),
    arch_tx=_own_tx(parts.alpha_tx, num_steps) or optimizers.arch_tx(**config.alpha),
    beta_tx=_own_tx(parts.beta_tx, num_steps) or optimizers.arch_tx(**config.beta),
    # The step that a second-order rule looks ahead has no clipping, as in DARTS.
    virtual_tx=_own_tx(parts.weights_tx, num_steps)
    or _search_weights_tx(config.weights, **schedule, clip_norm=None),
    penalty_weight=config.topology.penalty_weight,
    relaxation=mixing,
    penalties=(
      *parts.penalties,
      *axes.penalties_of(config, net, table, tuple(image_shape)),
      *budgets.penalties_of(config, net, table, tuple(image_shape)),
    ),
    knobs=axes.knobs_of(config, parts.knobs, phase_steps or num_steps, steps_per_epoch),
    image_shape=tuple(image_shape),
    unroll=config.search.unroll,
    together=axes.passes_together(config, parts.rule, net, platform),
    decoding=parts.decoding or axes.decoding_of(config),
  )
  at = functools.partial(at_precision, precision=config.model.precision)
  search = search._replace(step=at(search.step), evaluate=at(search.evaluate))
  return SearchObjects(net, table, search)


def train_objects(
  config: ConfigDict,
  genotype: genotype_lib.AnyGenotype,
  parts: Parts | None = None,
  *,
  num_classes: int,
  image_shape: tuple[int, ...],
  steps_per_epoch: int,
  platform: str | None = None,
) -> TrainObjects:
  """Builds the objects of a training.

  Args:
    config: a checked training config.
    genotype: the cells.
    parts: the researcher's own objects.
    num_classes: of the data set.
    image_shape: `(H, W, C)`.
    steps_per_epoch: for the schedules of the learning rate and of drop path.
    platform: as for `search_objects`.

  Raises:
    ValueError: the network cannot take images of that shape.
  """
  parts = parts or Parts()
  model, weights, epochs = config.model, config.weights, config.train.epochs
  net = trained_network.network_class(genotype)(
    genotype,
    model.channels,
    model.num_layers,
    num_classes,
    model.stem,
    model.auxiliary,
    dtype=jnp.dtype(model.dtype),
    operations=parts.all_operations() or None,
    form=checks.form_of('auto', 'plain', platform),
    batch_norm=model.batch_norm,
  )
  sizes = _measured_sizes(net, tuple(image_shape))
  sgd = {name: weights[name] for name in ('momentum', 'nesterov', 'weight_decay', 'clip_norm')}
  tx = optimizers.clipped_sgd(_training_schedule(weights, epochs, steps_per_epoch), **sgd)
  made = training.make_training(
    net,
    _own_tx(parts.weights_tx, epochs * steps_per_epoch) or tx,
    image_shape=tuple(image_shape),
    auxiliary_weight=config.train.auxiliary_weight,
    drop_path=config.train.drop_path,
    label_smoothing=config.train.label_smoothing,
    steps_per_epoch=steps_per_epoch,
    epochs=epochs,
  )
  at = functools.partial(at_precision, precision=model.precision)
  made = made._replace(step=at(made.step), evaluate=at(made.evaluate))
  return TrainObjects(net, made, sizes)


def at_precision(function: Callable[..., Any], precision: str) -> Callable[..., Any]:
  """Returns a function whose matrix products and convolutions have a precision.

  Args:
    function: any function that JAX traces; gradients inside it have the precision too.
    precision: 'high' or 'highest', see `jax.default_matmul_precision`; 'default' changes nothing.
  """
  if precision == 'default':
    return function

  @functools.wraps(function)
  def precise(*args: Any, **kwargs: Any) -> Any:
    with jax.default_matmul_precision(precision):
      return function(*args, **kwargs)

  return precise


def _search_weights_tx(
  weights: ConfigDict, num_steps: int, steps_per_epoch: int, **changes: Any
) -> optax.GradientTransformation:
  """Returns the optimizer of the weights of a search; `changes` replace fields of the config."""
  fields = {**weights, **changes}
  by = fields.pop('schedule_by')
  length = steps_per_epoch if by == 'epoch' else None
  return optimizers.weights_tx(num_steps, steps_per_epoch=length, **fields)


def _training_schedule(weights: ConfigDict, epochs: int, steps_per_epoch: int) -> optax.Schedule:
  """Returns the learning rate of each step of a training."""
  unit = 1 if weights.schedule_by == 'epoch' else steps_per_epoch
  schedule = SCHEDULES[weights.schedule](weights, epochs, unit)
  schedule = optimizers.with_warmup(schedule, weights.warmup_epochs * unit)
  return schedule if unit == steps_per_epoch else optimizers.by_epoch(schedule, steps_per_epoch)


def _own_tx(own: Any, num_steps: int) -> optax.GradientTransformation | None:
  """Returns a researcher's optimizer; a function of the number of steps is called."""
  if own is None or isinstance(own, optax.GradientTransformation):
    return own
  return own(num_steps)


def _measured_sizes(
  net: trained_network.TrainedNetwork, image_shape: tuple[int, ...]
) -> sizes_lib.Sizes:
  """Returns the sizes without the auxiliary head; names an image that the network cannot take."""
  measure = lambda auxiliary: sizes_lib.measure(
    net.genotype, net.channels, net.num_layers, net.num_classes, net.stem, auxiliary, image_shape,
    operations=net.operations,
  )  # fmt: skip
  try:
    if net.auxiliary:
      measure(True)
  except ValueError as error:
    raise ValueError(f'config.model.auxiliary is True: {error}') from error
  return measure(False)
