"""The optimisers of the papers, as optax chains."""

import jax.numpy as jnp
import optax


def weights_tx(
  num_steps,
  *,
  learning_rate=0.025,
  final_learning_rate=0.001,
  momentum=0.9,
  weight_decay=3e-4,
  clip_norm=5.0,
):
  """SGD with momentum, cosine schedule a step and clipping, as DARTS trains its weights.

  Args:
    num_steps: length of the schedule.
    learning_rate, final_learning_rate: its ends.
    momentum: without Nesterov.
    weight_decay: an L2 penalty, added after the clipping.
    clip_norm: bound on the global norm of the gradients; None for no bound, with the same state.

  Returns:
    An optax transformation.
  """
  schedule = cosine(num_steps, learning_rate, final_learning_rate)
  return clipped_sgd(schedule, momentum=momentum, weight_decay=weight_decay, clip_norm=clip_norm)


def clipped_sgd(schedule, *, momentum=0.9, weight_decay=3e-4, clip_norm=5.0):
  """`weights_tx` with any schedule `step -> learning rate`."""
  return optax.chain(
    optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm),
    optax.add_decayed_weights(weight_decay),
    optax.sgd(schedule, momentum=momentum),
  )


def arch_tx(learning_rate=3e-4, *, b1=0.5, b2=0.999, weight_decay=1e-3):
  """Adam with an L2 penalty, as DARTS trains alpha, and this paper alpha and beta alike."""
  return optax.chain(
    optax.add_decayed_weights(weight_decay), optax.adam(learning_rate, b1=b1, b2=b2)
  )


# ---- schedules: step -> learning rate ------------------------------------------------------------


def cosine(num_steps, learning_rate, final_learning_rate=0.0):
  """Half a cosine from one rate to the other."""
  return optax.cosine_decay_schedule(
    learning_rate, max(num_steps, 1), final_learning_rate / learning_rate
  )


def linear(num_steps, learning_rate, final_learning_rate=0.0):
  """A straight line from one rate to the other."""
  return optax.linear_schedule(learning_rate, final_learning_rate, max(num_steps, 1))


def exponential(steps_per_epoch, learning_rate, decay=0.97):
  """The rate times `decay` after every epoch."""
  return optax.exponential_decay(learning_rate, steps_per_epoch, decay, staircase=True)


def with_warmup(schedule, num_steps):
  """A schedule whose first `num_steps` are multiplied by a factor that grows evenly to 1."""
  if not num_steps:
    return schedule
  return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / num_steps)
