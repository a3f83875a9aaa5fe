"""Our training steps on given images, for PyTorch to make again; see `experiments.agreement`."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.runs import build


def steps(config, cell, images, labels, seeds=(0,)):
  """Makes a training step with each batch, from the weights that each seed gives.

  Args:
    config: a training config, without drop path and with as many epochs as steps; its `model.dtype`
      may be float64 where JAX is told to know it.
    cell: a `Genotype`.
    images: `[T, B, H, W, C]`, normalised; a step each of T.
    labels: int32 `[T, B]`, 0 to 9.
    seeds: of the first weights.

  Returns:
    For each seed a dict of arrays: what was given; all weights and running averages before, after
    the first step and after the last, under `start/`, `first/` and `end/`; `logits` and
    `auxiliary_logits` of the first step, `loss` `[T]` without the auxiliary head's, and
    `evaluation_logits` of the first batch at the end.
  """
  net, training, _ = build.train_objects(
    config, cell, num_classes=10, image_shape=images.shape[2:], steps_per_epoch=1
  )
  images = images.astype(net.dtype)
  given = {'images': images, 'labels': labels, 'genotype': np.array(genotype_lib.to_json(cell))}
  given |= {'channels': net.channels, 'layers': net.num_layers, 'auxiliary': net.auxiliary}
  run = jax.jit(training.init), jax.jit(training.step), jax.jit(net.apply), first_logits(net)
  return [{**given, **record(*run, net.dtype, images, labels, seed)} for seed in seeds]


def record(init, step, apply, logits, dtype, images, labels, seed):
  """What `steps` gives for one seed, without what was given."""
  state = init(jax.random.key(seed))
  state = jax.tree.map(lambda x: x.astype(dtype) if x.dtype == jnp.float32 else x, state)
  arrays = logits(variables(state), images[0]) | named('start', state)
  losses = []
  for batch in map(Examples, images, labels):
    state, values = step(state, batch, jax.random.key(0))
    if not losses:
      arrays |= named('first', state)
    losses.append(values['train_loss'])
  arrays |= named('end', state)
  arrays |= {'loss': losses, 'evaluation_logits': apply(variables(state), images[0])}
  return {name: np.asarray(array) for name, array in arrays.items()}


def variables(state):
  return {'params': state.params, 'batch_stats': state.batch_stats}


def named(folder, state):
  """`{'start/stem/conv/kernel': array}`"""
  found = {}
  for tree in variables(state).values():
    found |= traverse_util.flatten_dict({folder: tree}, sep='/')
  return found


def first_logits(net):
  """A function `(variables, images) -> {name: logits}`, in training."""
  run = jax.jit(lambda v, x: net.apply(v, x, train=True, mutable=['batch_stats'])[0])
  names = ('logits', 'auxiliary_logits')[: 1 + net.auxiliary]
  return lambda *args: dict(zip(names, run(*args) if net.auxiliary else [run(*args)]))
