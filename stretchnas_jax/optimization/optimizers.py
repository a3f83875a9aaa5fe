"""The optimisers of the papers, as optax chains."""

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
  schedule = optax.cosine_decay_schedule(
    learning_rate, max(num_steps, 1), final_learning_rate / learning_rate
  )
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
