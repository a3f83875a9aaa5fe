"""Training of the network of a fixed cell from scratch (Liu et al. 2018)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.learning import losses
from stretchnas_jax.networks import initializers
from stretchnas_jax.networks.running_averages import settle
from stretchnas_jax.networks.trained_network import TrainedNetwork

TOP5_CLASSES = 11
"""The fewest classes for which the top-5 accuracy is counted."""


class TrainState(NamedTuple):
  """A training between two steps.

  Attributes:
    step: the number of steps so far, int32.
    params: the weights of the network.
    batch_stats: its running averages.
    opt: the state of the optimizer.
  """

  step: Int[Array, '']
  params: PyTree
  batch_stats: PyTree
  opt: PyTree


class Training(NamedTuple):
  """A training as pure functions.

  Attributes:
    init: `init(key) -> state`.
    step: `step(state, examples, key, *, axis_name=None) -> state, metrics`, one step.
    evaluate: `evaluate(state, examples, valid, *, axis_name=None) -> sums` over the examples whose
      `valid` is 1.
  """

  init: Callable[..., TrainState]
  step: Callable[..., tuple[TrainState, dict[str, Float[Array, '']]]]
  evaluate: Callable[..., dict[str, Float[Array, '']]]


class _Recipe(NamedTuple):
  """The arguments of `make_training`."""

  net: TrainedNetwork
  tx: optax.GradientTransformation
  image_shape: tuple[int, ...]
  auxiliary_weight: float
  drop_path: float
  label_smoothing: float
  steps_per_epoch: int
  epochs: int


def make_training(
  net: TrainedNetwork,
  tx: optax.GradientTransformation,
  *,
  image_shape: tuple[int, ...],
  auxiliary_weight: float = 0.4,
  drop_path: float = 0.0,
  label_smoothing: float = 0.0,
  steps_per_epoch: int = 1,
  epochs: int = 1,
) -> Training:
  """Builds a training from its parts.

  Args:
    net: the network.
    tx: the optimizer of its weights.
    image_shape: `(H, W, C)` of one image.
    auxiliary_weight: the factor of the auxiliary head's loss, where `net` has that head.
    drop_path: the final probability of drop path, with which an example loses an edge that is not
      an identity. It grows by epoch: `drop_path * epoch / epochs`, with epochs counted from 0.
    label_smoothing: the part of a label that is spread evenly over all classes; in training only.
    steps_per_epoch: the length of an epoch, for drop path.
    epochs: the length of the training, for drop path.

  Returns:
    The functions of the training.

  Example:
    >>> net = snas.FixedNetwork(snas.zoo.GENOTYPES['DARTS_V2'], 4, 1, 10)
    >>> training = make_training(net, optax.sgd(0.1), image_shape=(8, 8, 3))
    >>> state = jax.eval_shape(training.init, jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(state.params))
    902
  """
  recipe = _Recipe(
    net, tx, image_shape, auxiliary_weight, drop_path, label_smoothing, steps_per_epoch, epochs
  )

  @with_usual_promotion
  def init(key: PRNGKeyArray) -> TrainState:
    variables = initializers.init(net, key, jnp.zeros((2, *image_shape)))
    params, batch_stats = variables['params'], variables['batch_stats']
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params))

  @with_usual_promotion
  def step(
    state: TrainState, examples: Examples, key: PRNGKeyArray, *, axis_name: str | None = None
  ) -> tuple[TrainState, dict[str, Float[Array, '']]]:
    return _step(recipe, state, examples, key, axis_name)

  @with_usual_promotion
  def evaluate(
    state: TrainState,
    examples: Examples,
    valid: Float[AnyArray, ' B'],
    *,
    axis_name: str | None = None,
  ) -> dict[str, Float[Array, '']]:
    return _evaluate(recipe, state, examples, valid, axis_name)

  return Training(init, step, evaluate)


def in_top5(logits: Float[Array, 'B M'], labels: Int[AnyArray, ' B']) -> Float[Array, ' B']:
  """Returns whether the label is among the five largest logits, as 1 or 0.

  Args:
    logits: of M classes; of equal ones the first counts as larger.
    labels: the right classes.

  Returns:
    A number for each example, float32.
  """
  return (lax.top_k(logits, 5)[1] == labels[:, None]).any(-1).astype(jnp.float32)


def _step(
  recipe: _Recipe,
  state: TrainState,
  examples: Examples,
  key: PRNGKeyArray,
  axis_name: str | None,
) -> tuple[TrainState, dict[str, Float[Array, '']]]:
  """Makes one step of the weights."""

  def loss(params: PyTree) -> tuple[Float[Array, ''], Any]:
    return _loss(recipe, state, examples, key, axis_name, params)

  gradients, (value, accuracy, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
  gradients = losses.pmean(gradients, axis_name)
  params, opt = losses.move(recipe.tx, gradients, state.opt, state.params)
  batch_stats = settle(recipe.net, state.batch_stats, batch_stats, state.step)
  metrics = {'train_loss': value, 'train_accuracy': accuracy}
  return TrainState(state.step + 1, params, batch_stats, opt), metrics


def _loss(
  recipe: _Recipe,
  state: TrainState,
  examples: Examples,
  key: PRNGKeyArray,
  axis_name: str | None,
  params: PyTree,
) -> tuple[Float[Array, ''], tuple[Float[Array, ''], Float[Array, ''], PyTree]]:
  """Returns the loss with its auxiliary part, and `(loss without it, accuracy, batch_stats)`."""
  net, smoothing, rate = recipe.net, recipe.label_smoothing, 0.0
  if recipe.drop_path:
    rate = recipe.drop_path * (state.step // recipe.steps_per_epoch) / recipe.epochs
  logits, updated = net.clone(axis_name=axis_name).apply(
    {'params': params, 'batch_stats': state.batch_stats},
    examples.images,
    train=True,
    drop_path_rate=rate,
    mutable=['batch_stats'],
    rngs={'drop_path': jax.random.fold_in(key, state.step)},
  )
  logits, extra = logits if net.auxiliary else (logits, None)
  value = _smoothed_loss(logits, examples.labels, smoothing)
  total = value
  if extra is not None:
    total += recipe.auxiliary_weight * _smoothed_loss(extra, examples.labels, smoothing)
  accuracy = (logits.argmax(-1) == examples.labels).mean(dtype=jnp.float32)
  # The mean before the gradient, as in a search: right under every backend.
  total, value, accuracy = losses.pmean((total, value, accuracy), axis_name)
  return total, (value, accuracy, updated['batch_stats'])


def _evaluate(
  recipe: _Recipe,
  state: TrainState,
  examples: Examples,
  valid: Float[AnyArray, ' B'],
  axis_name: str | None,
) -> dict[str, Float[Array, '']]:
  """Returns the sums of one batch of an evaluation, over all devices."""
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  logits = recipe.net.apply(variables, examples.images)
  sums = losses.evaluation_sums(logits, examples.labels, valid)
  if recipe.net.num_classes >= TOP5_CLASSES:
    sums['correct_top5'] = (in_top5(logits, examples.labels) * valid).sum()
  return sums if axis_name is None else lax.psum(sums, axis_name)


def _smoothed_loss(
  logits: Float[Array, 'B M'], labels: Int[AnyArray, ' B'], smoothing: float
) -> Float[Array, '']:
  """Returns the mean cross entropy with labels of `1 - smoothing`, the rest spread evenly."""
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  return optax.softmax_cross_entropy(logits, targets).mean()
