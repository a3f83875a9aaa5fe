"""Searches as plain loops in NumPy and float64, written from the equations of their papers.

Only the network is computed by JAX, by `reference.supernet`. This file shares no code with the
package: relaxations and their gradients, penalties, optimizers and timetables are here once more.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import reference
import scipy.special

CELLS = ('normal', 'reduce')


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def through_softmax(p, g):
  """The gradient for the logits of p, from that for p."""
  return p * (g - (p * g).sum(-1, keepdims=True))


def gumbel(key, shape):
  return np.asarray(jax.random.gumbel(key, shape, jnp.float32), np.float64)


# ---- relaxations: `(logits, key, T) -> weights, pull`; pull takes their gradient to the logits ---


def plain(alpha, key, t):
  p = softmax(alpha)
  return p, lambda g: through_softmax(p, g)


def gates(alpha, key, t):
  w = 1 / (1 + np.exp(-alpha))
  return w, lambda g: g * w * (1 - w)


def snas(alpha, key, t):
  p = softmax((alpha + gumbel(key, alpha.shape)) / t)
  return p, lambda g: through_softmax(p, g) / t


def gdas(alpha, key, t):
  p = softmax((alpha + gumbel(key, alpha.shape)) / t)
  h = np.eye(p.shape[-1])[p.argmax(-1)]
  return h, lambda g: through_softmax(p, g * h) / t


def binary(alpha, key, t):
  p = softmax(alpha)
  drawn = np.asarray(jax.random.categorical(key, jnp.asarray(alpha, jnp.float32)))
  return np.eye(p.shape[-1])[drawn], lambda g: through_softmax(p, g)


def dirichlet(alpha, key, t):
  """DrNAS' draws: gammas divided by their sum; each gamma follows its own quantile.

  Only the chance is JAX's. For a gamma x with the distribution F(x; c) and the density f, dx/dc is
  -(dF/dc) / f. A logit of -inf stands for an operation that is gone.
  """
  there, logits = np.isfinite(alpha), np.where(np.isfinite(alpha), alpha, 0.0)
  c = np.where(logits > 0, logits + 1, np.exp(np.minimum(logits, 0)))
  x = np.exp(np.float64(jax.random.loggamma(key, jnp.asarray(c, jnp.float32), dtype=jnp.float32)))
  total = np.where(there, x, 0.0).sum(-1, keepdims=True)
  w = np.where(there, x, 0.0) / total
  cdf, h = scipy.special.gammainc, 1e-4
  density = np.exp((c - 1) * np.log(x) - x - scipy.special.gammaln(c))
  to_c = -(cdf(c + h, x) - cdf(c - h, x)) / (2 * h) / density

  def pull(g):
    to_x = (g - (w * g).sum(-1, keepdims=True)) / total
    return np.where(there, to_x * to_c * np.where(logits > 0, 1.0, c), 0.0)

  return w, pull


# ---- penalties: from alpha to the gradients -----------------------------------------------------


def nothing(alpha, epoch, epochs):
  return dict.fromkeys(CELLS, 0.0)


def zero_one(alpha, epoch, epochs):
  w = {c: 1 / (1 + np.exp(-alpha[c])) for c in CELLS}
  count = sum(w[c].size for c in CELLS)
  return {c: -10 * 2 * (w[c] - 0.5) * w[c] * (1 - w[c]) / count for c in CELLS}


def beta_decay(alpha, epoch, epochs):
  rows = sum(len(alpha[c]) for c in CELLS)
  return {c: 50 * epoch / epochs * softmax(alpha[c]) / rows for c in CELLS}


def logarithms(kinds, alpha, epoch, epochs):
  """SNAS' penalty with the costs `[L, E, O]` of each kind."""
  found = {}
  for cell in CELLS:
    p, total = softmax(alpha[cell]), 0.0
    for tables in kinds:
      for costs in tables[cell]:
        expected = (p * costs).sum(-1, keepdims=True)
        total += np.where(expected > 1, costs / np.maximum(expected, 1), 0) / len(tables[cell])
    found[cell] = 1.5e-3 * through_softmax(p, total / len(kinds))
  return found


# ---- the loop ------------------------------------------------------------------------------------


class Method(NamedTuple):
  """A method: its relaxation, its order, and the numbers of its optimizers."""

  relax: Any = plain
  order: str = 'arch first'
  temperature: Any = lambda epoch, epochs: 1.0
  penalty: Any = nothing
  rests: Any = lambda epoch, place: False
  rate: float = 0.025
  by_epoch: bool = True
  weight_decay: float = 3e-4
  nesterov: bool = False
  alpha_rate: float = 3e-4
  b1: float = 0.5
  alpha_decay: float = 1e-3
  alpha_clip: float = np.inf
  auxiliary: Any = None
  partial: int = 1


def clipped(tree, most):
  norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(tree)))
  return tree if norm < most else jax.tree.map(lambda x: x / norm * most, tree)


class PlainSearch:
  """A search without topology variables, step by step.

  `masks` has the operations that compete, by cell type; None for those of the network.
  """

  def __init__(self, net, method, params, alpha, epochs, steps_per_epoch, masks=None):
    self.masks = masks or net.space.allowed or dict.fromkeys(CELLS, True)
    to64 = functools.partial(jax.tree.map, lambda x: np.array(x, np.float64))
    self.net, self.method, self.params, self.alpha = net, method, to64(params), to64(alpha)
    self.epochs, self.steps_per_epoch, self.step, self.moves = epochs, steps_per_epoch, 0, 0
    self.trace = jax.tree.map(np.zeros_like, self.params)
    self.mean, self.square = (jax.tree.map(np.zeros_like, self.alpha) for _ in range(2))

    def loss(params, weights, images, labels, auxiliary):
      scores = dict.fromkeys(CELLS, np.ones(len(net.space.graph.edges)))
      options = reference.Options(method.partial, net.space.allowed, auxiliary)
      logits = reference.supernet(net, params, images, weights, scores, options)
      return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

    self.gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))

  def passed(self, examples, key, draw):
    """One pass: the loss, the gradients of the weights, and those of alpha."""
    keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, self.step), draw))
    epoch = self.step // self.steps_per_epoch
    t = self.method.temperature(epoch, self.epochs)
    logits = {c: np.where(self.masks[c], self.alpha[c], -np.inf) for c in CELLS}
    found = {c: self.method.relax(logits[c], k, t) for c, k in zip(CELLS, keys)}
    auxiliary = self.method.auxiliary and self.method.auxiliary(epoch, self.epochs)
    weights = {c: w for c, (w, _) in found.items()}
    value, (to_params, to_weights) = self.gradients(
      self.params, weights, np.float64(examples.images), examples.labels, auxiliary
    )
    to_alpha = {c: found[c][1](np.asarray(to_weights[c])) for c in CELLS}
    return float(value), jax.tree.map(np.asarray, to_params), to_alpha

  def move_alpha(self, gradients):
    method, epoch = self.method, self.step // self.steps_per_epoch
    pushes, self.moves = method.penalty(self.alpha, epoch, self.epochs), self.moves + 1
    gradients = clipped({c: gradients[c] + pushes[c] for c in CELLS}, method.alpha_clip)
    for c in CELLS:
      g = gradients[c] + method.alpha_decay * self.alpha[c]
      self.mean[c] = method.b1 * self.mean[c] + (1 - method.b1) * g
      self.square[c] = 0.999 * self.square[c] + 0.001 * g**2
      mean = self.mean[c] / (1 - method.b1**self.moves)
      square = self.square[c] / (1 - 0.999**self.moves)
      self.alpha[c] = self.alpha[c] - method.alpha_rate * mean / (np.sqrt(square) + 1e-8)

  def move_weights(self, gradients):
    method, total = self.method, self.epochs
    at = self.step // self.steps_per_epoch
    if not method.by_epoch:
      at, total = self.step, self.epochs * self.steps_per_epoch
    rate = 0.001 + (method.rate - 0.001) * (1 + np.cos(np.pi * at / total)) / 2
    gradients = clipped(gradients, 5.0)
    gradients = jax.tree.map(lambda g, p: g + method.weight_decay * p, gradients, self.params)
    self.trace = jax.tree.map(lambda v, g: 0.9 * v + g, self.trace, gradients)
    update = self.trace
    if method.nesterov:
      update = jax.tree.map(lambda v, g: g + 0.9 * v, self.trace, gradients)
    self.params = jax.tree.map(lambda p, u: p - rate * u, self.params, update)

  def run(self, batch, key):
    """One step; returns the training loss."""
    epoch, place = divmod(self.step, self.steps_per_epoch)
    rests = self.method.rests(epoch, place)
    if self.method.order == 'together':
      value, to_params, to_alpha = self.passed(batch.train, key, 0)
      self.move_alpha(to_alpha)
      self.move_weights(to_params)
    elif self.method.order == 'weights first':
      value, to_params, _ = self.passed(batch.train, key, 0)
      self.move_weights(to_params)
      if not rests:
        self.move_alpha(self.passed(batch.val_alpha, key, 1)[2])
    else:
      if not rests:
        self.move_alpha(self.passed(batch.val_alpha, key, 1)[2])
      value, to_params, _ = self.passed(batch.train, key, 0)
      self.move_weights(to_params)
    self.step += 1
    return value
