"""The optimizers of the papers as optax chains, and schedules of the learning rate."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

# The last epochs of `linear_tail`, in which the learning rate falls a fifth as fast.
_TAIL_EPOCHS = 5


def weights_tx(
  num_steps: int,
  *,
  steps_per_epoch: int | None = None,
  learning_rate: float = 0.025,
  final_learning_rate: float = 0.001,
  momentum: float = 0.9,
  weight_decay: float = 3e-4,
  clip_norm: float | None = 5.0,
  nesterov: bool = False,
) -> optax.GradientTransformation:
  """Builds SGD with momentum, a cosine schedule and clipping, as DARTS trains its weights.

  Args:
    num_steps: the length of the schedule.
    steps_per_epoch: the rate changes after every epoch of this length, as in DARTS' code. None: it
      changes after every step.
    learning_rate: its first value.
    final_learning_rate: its last value.
    momentum: the momentum.
    weight_decay: the factor of an L2 penalty, which is added after the clipping.
    clip_norm: the bound on the global norm of the gradients. None for no bound; the optimizer's
      state is the same.
    nesterov: whether the momentum is Nesterov's.

  Returns:
    The optimizer.

  Example:
    >>> tx = weights_tx(num_steps=100)
    >>> updates, _ = tx.update(jnp.ones(1), tx.init(jnp.ones(1)), jnp.ones(1))
    >>> round(float(updates[0]), 4)
    -0.025
  """
  length = steps_per_epoch or 1
  schedule = cosine(num_steps // length, learning_rate, final_learning_rate)
  if steps_per_epoch is not None:
    schedule = by_epoch(schedule, steps_per_epoch)
  return clipped_sgd(
    schedule,
    momentum=momentum,
    weight_decay=weight_decay,
    clip_norm=clip_norm,
    nesterov=nesterov,
  )


def clipped_sgd(
  schedule: optax.Schedule,
  *,
  momentum: float = 0.9,
  weight_decay: float = 3e-4,
  clip_norm: float | None = 5.0,
  nesterov: bool = False,
) -> optax.GradientTransformation:
  """Builds the same optimizer with any schedule.

  Args:
    schedule: from the number of the step to the learning rate.
    momentum: as for `weights_tx`.
    weight_decay: as for `weights_tx`.
    clip_norm: as for `weights_tx`.
    nesterov: as for `weights_tx`.

  Returns:
    The optimizer.

  Example:
    >>> tx = clipped_sgd(cosine(100, 0.1), weight_decay=0.0)
    >>> updates, _ = tx.update(jnp.ones(1), tx.init(jnp.ones(1)), jnp.ones(1))
    >>> round(float(updates[0]), 4)
    -0.1
  """
  return optax.chain(
    optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm),
    optax.add_decayed_weights(weight_decay),
    optax.sgd(schedule, momentum=momentum, nesterov=nesterov),
  )


def arch_tx(
  learning_rate: float = 3e-4,
  *,
  b1: float = 0.5,
  b2: float = 0.999,
  weight_decay: float = 1e-3,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Builds Adam with an L2 penalty, as DARTS trains alpha; here it is assumed for beta as well.

  Args:
    learning_rate: the learning rate.
    b1: the decay of the first moment.
    b2: the decay of the second moment.
    weight_decay: the factor of the L2 penalty.
    clip_norm: the bound on the global norm of the gradients, before that penalty joins them. None
      for no bound.

  Returns:
    The optimizer.

  Example:
    >>> tx = arch_tx(learning_rate=0.01)
    >>> updates, _ = tx.update(jnp.ones(1), tx.init(jnp.ones(1)), jnp.ones(1))
    >>> round(float(updates[0]), 4)
    -0.01
  """
  adam = optax.chain(
    optax.add_decayed_weights(weight_decay), optax.adam(learning_rate, b1=b1, b2=b2)
  )
  return adam if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), adam)


# ---- schedules: from the number of the step to the learning rate --------------------------------
# With `by_epoch`, the number is that of the epoch.


def cosine(
  num_steps: int, learning_rate: float, final_learning_rate: float = 0.0
) -> optax.Schedule:
  """Builds half a cosine from one learning rate to another.

  Args:
    num_steps: its length.
    learning_rate: the first value.
    final_learning_rate: the last value.

  Returns:
    The schedule.

  Example:
    >>> [round(float(cosine(100, 0.1)(step)), 3) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
  """
  return optax.cosine_decay_schedule(
    learning_rate, max(num_steps, 1), final_learning_rate / learning_rate
  )


def linear(
  num_steps: int, learning_rate: float, final_learning_rate: float = 0.0
) -> optax.Schedule:
  """Builds a straight line from one learning rate to another.

  Args:
    num_steps: its length.
    learning_rate: the first value.
    final_learning_rate: the last value.

  Returns:
    The schedule.

  Example:
    >>> [round(float(linear(100, 0.1)(step)), 3) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
  """
  return optax.linear_schedule(learning_rate, final_learning_rate, max(num_steps, 1))


def linear_tail(epochs: int, steps_per_epoch: int, learning_rate: float) -> optax.Schedule:
  """Builds PC-DARTS' line for ImageNet (Xu et al. 2020): nearly to 0, then flatter to 0.

  Of E epochs, epoch e < E - 5 has the rate `learning_rate * (E - 5 - e) / (E - 5)`. A last epoch
  has `learning_rate * (E - e) / (5 (E - 5))`. Steps within an epoch are interpolated. With E of 5
  or less there is no such line, and one straight line to 0 stands in.

  Args:
    epochs: E.
    steps_per_epoch: the length of an epoch; 1 where the number of the epoch is given.
    learning_rate: the first value.

  Returns:
    The schedule.

  Example:
    >>> [round(float(linear_tail(25, 1, 0.5)(epoch)), 3) for epoch in (0, 10, 20, 25)]
    [0.5, 0.25, 0.025, 0.0]
  """
  if epochs <= _TAIL_EPOCHS:
    return linear(epochs * steps_per_epoch, learning_rate)
  fall = epochs - _TAIL_EPOCHS
  places = jnp.array([0.0, fall - 1.0, float(fall), float(epochs)])
  rates = learning_rate * jnp.array([1.0, 1.0 / fall, 1.0 / fall, 0.0])

  def rate(step: Int[Array, ''] | int) -> Float[Array, '']:
    return jnp.interp(step / steps_per_epoch, places, rates)

  return rate


def exponential(steps_per_epoch: int, learning_rate: float, decay: float = 0.97) -> optax.Schedule:
  """Builds a schedule that is multiplied by `decay` after every epoch.

  Args:
    steps_per_epoch: the length of an epoch.
    learning_rate: the first value.
    decay: the factor.

  Returns:
    The schedule.

  Example:
    >>> [round(float(exponential(10, 0.1)(step)), 4) for step in (0, 9, 10)]
    [0.1, 0.1, 0.097]
  """
  return optax.exponential_decay(learning_rate, steps_per_epoch, decay, staircase=True)


def with_warmup(schedule: optax.Schedule, num_steps: int) -> optax.Schedule:
  """Builds a schedule with a warm-up: its first steps have a factor that grows evenly to 1.

  Args:
    schedule: any schedule.
    num_steps: the length of the warm-up; 0 for none.

  Returns:
    The schedule.

  Example:
    >>> [round(float(with_warmup(lambda step: 0.1, 4)(step)), 3) for step in (0, 1, 3, 9)]
    [0.025, 0.05, 0.1, 0.1]
  """
  if not num_steps:
    return schedule

  def warm(step: Int[Array, ''] | int) -> Float[Array, ''] | float:
    return schedule(step) * jnp.minimum(1.0, (step + 1) / num_steps)

  return warm


def by_epoch(schedule: optax.Schedule, steps_per_epoch: int) -> optax.Schedule:
  """Builds a schedule whose rate changes after every epoch, as in the code of DARTS and others.

  Args:
    schedule: from the number of the epoch, from 0, to the learning rate.
    steps_per_epoch: the length of an epoch.

  Returns:
    The schedule, from the number of the step.

  Example:
    >>> [by_epoch(lambda epoch: 0.1 / (1 + epoch), 10)(step) for step in (0, 9, 10)]
    [0.1, 0.1, 0.05]
  """

  def rate(step: Int[Array, ''] | int) -> Float[Array, ''] | float:
    return schedule(step // steps_per_epoch)

  return rate
