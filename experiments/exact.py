"""Our training steps on given images, for PyTorch to repeat; see `experiments.agreement`."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.runs import build

Arrays = dict[str, np.ndarray]


def steps(
  config: ConfigDict,
  cell: genotype_lib.Genotype,
  images: np.ndarray,
  labels: np.ndarray,
  seeds: Iterable[int] = (0,),
) -> list[Arrays]:
  """Makes a training step with each batch, from the weights that each seed gives.

  Args:
    config: a training config, without drop path and with as many epochs as steps. Its
      `model.dtype` may be float64 where JAX is allowed to use it.
    cell: the cell of the network.
    images: `[T, B, H, W, C]`, normalised, for T steps.
    labels: int32 `[T, B]`, 0 to 9.
    seeds: of the first weights.

  Returns:
    For each seed a dict of arrays. It holds the arguments, and all weights and running averages:
    under `start/` before, under `first/` after the first step, under `end/` after the last. Then
    `logits` and `auxiliary_logits` of the first step, `loss` `[T]` without the auxiliary loss, and
    `evaluation_logits` of the first batch at the end.
  """
  net, training, _ = build.train_objects(
    config, cell, num_classes=10, image_shape=images.shape[2:], steps_per_epoch=1
  )
  images = images.astype(net.dtype)
  given = {
    'images': images,
    'labels': labels,
    'genotype': np.array(genotype_lib.to_json(cell)),
    'channels': net.channels,
    'layers': net.num_layers,
    'auxiliary': net.auxiliary,
  }
  programs = _Programs(net, training)
  return [{**given, **_record(programs, images, labels, seed)} for seed in seeds]


class _Programs:
  """The compiled programs of a training.

  Attributes:
    dtype: of all arithmetic.
    init: gives the first state of a key.
    step: gives the next state and the metrics.
    evaluate: gives the logits of an evaluation.
    train: gives the outputs of a network in training.
  """

  def __init__(self, net: Any, training: Any) -> None:
    """Compiles nothing yet.

    Args:
      net: the network.
      training: its `init` and `step`.
    """
    self.dtype = net.dtype
    self.init = jax.jit(training.init)
    self.step = jax.jit(training.step)
    self.evaluate = jax.jit(net.apply)
    self.train: Callable[[Any, np.ndarray], dict[str, jax.Array]] = _training_outputs(net)


def _training_outputs(net: Any) -> Callable[[Any, np.ndarray], dict[str, jax.Array]]:
  """Returns a function that gives the logits of both heads in training, by name."""

  @jax.jit
  def outputs(variables: Any, images: np.ndarray) -> dict[str, jax.Array]:
    found, _ = net.apply(variables, images, train=True, mutable=['batch_stats'])
    if not net.auxiliary:
      return {'logits': found}
    return dict(zip(('logits', 'auxiliary_logits'), found))

  return outputs


def _record(programs: _Programs, images: np.ndarray, labels: np.ndarray, seed: int) -> Arrays:
  """Returns the arrays of `steps` for one seed, without the arguments."""
  state = programs.init(jax.random.key(seed))
  state = jax.tree.map(
    lambda leaf: leaf.astype(programs.dtype) if leaf.dtype == jnp.float32 else leaf, state
  )
  arrays = programs.train(_variables(state), images[0]) | _named('start', state)
  losses = []
  for batch in map(Examples, images, labels):
    state, values = programs.step(state, batch, jax.random.key(0))
    if not losses:
      arrays |= _named('first', state)
    losses.append(values['train_loss'])
  arrays |= _named('end', state)
  arrays['loss'] = losses
  arrays['evaluation_logits'] = programs.evaluate(_variables(state), images[0])
  return {name: np.asarray(array) for name, array in arrays.items()}


def _variables(state: Any) -> dict[str, Any]:
  return {'params': state.params, 'batch_stats': state.batch_stats}


def _named(folder: str, state: Any) -> dict[str, Any]:
  """Returns weights and running averages by names such as `start/stem/conv/kernel`."""
  found: dict[str, Any] = {}
  for tree in _variables(state).values():
    found |= traverse_util.flatten_dict({folder: tree}, sep='/')
  return found
