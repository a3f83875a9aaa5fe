"""How the network of a fixed cell is trained from scratch (Liu et al. 2018)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from stretchnas_jax.learning import losses
from stretchnas_jax.networks import initializers

TOP5_CLASSES = 11  # fewest classes of which the top-5 accuracy says something


class TrainState(NamedTuple):
  """A training between two steps."""

  step: jax.Array  # [], int32
  params: Any
  batch_stats: Any
  opt: Any


class Training(NamedTuple):
  """A training as pure functions."""

  init: Callable[..., TrainState]  # init(key)
  step: Callable[..., Any]  # step(state, examples, key, *, axis_name=None) -> state, metrics
  evaluate: Callable[..., Any]  # evaluate(state, examples, valid, *, axis_name=None) -> sums


def make_training(
  net,
  tx,
  *,
  image_shape,
  auxiliary_weight=0.4,
  drop_path=0.0,
  label_smoothing=0.0,
  steps_per_epoch=1,
  epochs=1,
):
  """A training from its parts.

  Args:
    net: a `FixedNetwork`.
    tx: the optax transformation of its parameters.
    image_shape: `(H, W, C)` of one image.
    auxiliary_weight: factor of the auxiliary head's loss, where `net` has that head.
    drop_path: the probability that drop path tends to, `drop_path * epoch / epochs` with epochs
      counted from 0; an example loses each edge that is no identity with it.
    label_smoothing: the part of a label that is spread evenly over all classes; in training only.
    steps_per_epoch, epochs: length of the training.

  Returns:
    A `Training`.
  """

  def init(key):
    variables = initializers.init(net, key, jnp.zeros((2, *image_shape)))
    params, batch_stats = variables['params'], variables['batch_stats']
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params))

  def step(state, examples, key, *, axis_name=None):
    rate = drop_path * (state.step // steps_per_epoch) / epochs if drop_path else 0.0

    def loss(params):
      logits, updated = net.clone(axis_name=axis_name).apply(
        {'params': params, 'batch_stats': state.batch_stats}, examples.images,
        train=True, drop_path_rate=rate, mutable=['batch_stats'],
        rngs={'drop_path': jax.random.fold_in(key, state.step)},
      )  # fmt: skip
      logits, extra = logits if net.auxiliary else (logits, None)
      value = smoothed_loss(logits, examples.labels, label_smoothing)
      total = value
      if extra is not None:
        total += auxiliary_weight * smoothed_loss(extra, examples.labels, label_smoothing)
      accuracy = (logits.argmax(-1) == examples.labels).mean(dtype=jnp.float32)
      # The mean before the gradient, as in a search: right under every backend.
      total, value, accuracy = losses.pmean((total, value, accuracy), axis_name)
      return total, (value, accuracy, updated['batch_stats'])

    gradients, (value, accuracy, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
    gradients = losses.pmean(gradients, axis_name)
    params, opt = losses.move(tx, gradients, state.opt, state.params)
    metrics = {'train_loss': value, 'train_accuracy': accuracy}
    return TrainState(state.step + 1, params, batch_stats, opt), metrics

  def evaluate(state, examples, valid, *, axis_name=None):
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    logits = net.apply(variables, examples.images)
    sums = losses.evaluation_sums(logits, examples.labels, valid)
    if net.num_classes >= TOP5_CLASSES:
      sums['correct_top5'] = (in_top5(logits, examples.labels) * valid).sum()
    return sums if axis_name is None else lax.psum(sums, axis_name)

  return Training(init, step, evaluate)


def in_top5(logits, labels):
  """1 where the label `[B]` is among the five largest of the logits `[B, M]`, else 0; float32."""
  return (lax.top_k(logits, 5)[1] == labels[:, None]).any(-1).astype(jnp.float32)


def smoothed_loss(logits, labels, smoothing):
  """Mean cross entropy with labels of `1 - smoothing`, the rest spread evenly over all classes."""
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  return optax.softmax_cross_entropy(logits, targets).mean()
