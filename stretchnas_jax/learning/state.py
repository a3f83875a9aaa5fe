"""The state that a search carries from step to step, and the arguments of an update rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from stretchnas_jax.cells.relaxation import Knobs

PHASE_START = 'phase_start'
"""In the control, the number of steps before the present phase. Knobs count from there."""

AVERAGES_START = 'averages_start'
"""In the control, the number of steps before the running averages were new."""


class Arch(NamedTuple):
  """The architecture parameters of each cell type; they are no linen parameters.

  Attributes:
    alpha: operation logits, one array `[E, O]` for the softmax and any pytree for other
      relaxations.
    beta: topology logits.
  """

  alpha: dict[str, PyTree]
  beta: dict[str, Float[Array, 'R K']]


class SearchState(NamedTuple):
  """A search between two steps.

  Attributes:
    step: the number of steps so far, int32.
    params: the weights of the network.
    batch_stats: its running averages.
    arch: the architecture parameters.
    weights_opt: the state of the weights' optimizer.
    alpha_opt: the state of alpha's optimizer.
    beta_opt: the state of beta's optimizer.
    control: arrays that monitors and the borders of phases have decided; empty where nothing
      decides. Else a dict: 'allowed' has a bool `[E, O]` for each cell type, and any other entry
      is a scalar, which joins the knobs under its name. A true 'stop' ends the run.
  """

  step: Int[Array, '']
  params: PyTree
  batch_stats: PyTree
  arch: Arch
  weights_opt: PyTree
  alpha_opt: PyTree
  beta_opt: PyTree
  control: PyTree = ()


class StepInputs(NamedTuple):
  """The values that all passes of one step share.

  Attributes:
    batch_stats: the running averages before the step.
    knobs: the knobs of the step.
    control: see `SearchState`.
    key: the key of all random draws of the step.
    axis_name: the parallel axis, or None.
  """

  batch_stats: PyTree
  knobs: Knobs
  control: PyTree
  key: PRNGKeyArray
  axis_name: str | None


LossFn = Callable[..., Any]
"""`loss_fn(params, arch, examples, draw=1) -> scalar`, the task loss that an update rule is given.

Calls with the same `draw` see the same random draws, for example those of a relaxation. Number 0 is
the pass that moves the weights. The loss is the mean over all devices. Its gradients are those of
this device's share of the batch, see `Context.mean`.
"""


def _same(tree: PyTree) -> PyTree:
  return tree


class Context(NamedTuple):
  """Everything beside the loss that an update rule may use.

  Attributes:
    knobs: numbers that change with the step, by name; 'step' among them.
    virtual_step: `virtual_step(params, gradients) -> params`, the weights after the next step of
      their optimizer; nothing of that step is kept.
    mean: `mean(tree) -> tree`, the mean over the devices of the step; on one device the tree as it
      is. The step takes the mean of the gradients that a rule returns. A rule needs it before
      anything that is not linear in gradients, such as a norm or a sign.
  """

  knobs: Knobs
  virtual_step: Callable[[PyTree, PyTree], PyTree]
  mean: Callable[[PyTree], PyTree] = _same
