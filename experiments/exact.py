"""Our training steps on given images, for PyTorch to make again; see `experiments.agreement`."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from stretchnas_jax import build
from stretchnas_jax.architecture import genotype as genotype_lib
from stretchnas_jax.optimization.state import Examples


def steps(config, cell, images, labels, seed=0):
  """Makes a training step with each batch, from the weights that the seed gives.

  Args:
    config: a training config, without drop path and with as many epochs as steps; its `model.dtype`
      may be float64 where JAX is told to know it.
    cell: a `Genotype`.
    images: `[T, B, H, W, C]`, normalised; a step each of T.
    labels: int32 `[T, B]`, 0 to 9.
    seed: of the first weights.

  Returns:
    A dict of arrays: what was given; all weights and running averages before and after, under
    `start/` and `end/`; `logits` and `auxiliary_logits` of the first step, `loss` `[T]` without the
    auxiliary head's, and `evaluation_logits` of the first batch at the end.
  """
  net, training = build.train_parts(
    config, cell, num_classes=10, image_shape=images.shape[2:], steps_per_epoch=1
  )
  images = images.astype(net.dtype)
  state, step = jax.jit(training.init)(jax.random.key(seed)), jax.jit(training.step)
  state = jax.tree.map(lambda x: x.astype(net.dtype) if x.dtype == jnp.float32 else x, state)
  arrays = {'images': images, 'labels': labels, 'genotype': np.array(genotype_lib.to_json(cell))}
  arrays |= {'channels': net.channels, 'layers': net.num_layers, 'auxiliary': net.auxiliary}
  arrays |= first_logits(net, state, images[0]) | named('start', state)
  losses = []
  for batch in map(Examples, images, labels):
    state, values = step(state, batch, jax.random.key(0))
    losses.append(values['train_loss'])
  arrays['evaluation_logits'] = jax.jit(net.apply)(variables(state), images[0])
  return {
    name: np.asarray(a) for name, a in {**arrays, **named('end', state), 'loss': losses}.items()
  }


def variables(state):
  return {'params': state.params, 'batch_stats': state.batch_stats}


def named(folder, state):
  """`{'start/stem/conv/kernel': array}`"""
  found = {}
  for tree in variables(state).values():
    found |= traverse_util.flatten_dict({folder: tree}, sep='/')
  return found


def first_logits(net, state, images):
  run = jax.jit(lambda v, x: net.apply(v, x, train=True, mutable=['batch_stats'])[0])
  logits = run(variables(state), images)
  if not net.auxiliary:
    return {'logits': logits}
  return {'logits': logits[0], 'auxiliary_logits': logits[1]}
