"""Checks the own parts of a search before it begins: traces a step, and decodes a first cell."""

import contextlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import search_borders, search_phases
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.task import Plan

_NOT_TRACED = ('data', 'monitors')


def naming(parts: Parts) -> contextlib.AbstractContextManager:
  """Returns a context in which errors of own parts are a `Fault`; there may be none.

  Args:
    parts: the researcher's own objects.
  """
  has_code = set(parts.names()) - {'data'}
  return faults.in_own_code() if has_code else contextlib.nullcontext()


def check(plan: Plan) -> None:
  """Traces a step and an evaluation of each phase, and decodes a first cell.

  Without own parts it does nothing, since everything else is tested.

  Args:
    plan: of a search.

  Raises:
    ValueError: an own part fails; the sentence names the part, or its line.
  """
  if set(plan.parts.names()) <= set(_NOT_TRACED):
    return
  for phase, of_phase in zip(plan.phases, (plan, *search_borders.assumed_plans(plan))):
    name = search_borders.naming_phase(phase) if phase.several else contextlib.nullcontext()
    with name, faults.in_own_code():
      _trace(of_phase)


def _trace(plan: Plan) -> None:
  """Traces the functions of one phase; only the first logits and their cell are computed."""
  search, control, key = plan.objects.search, plan.objects.control, jax.random.key(0)
  first = search_phases.first(plan)
  state, size = jax.eval_shape(first, key).state, plan.config.search.batch_size
  images = jax.ShapeDtypeStruct((size, *plan.feeds.image_shape), jnp.float32)
  examples = Examples(images, jax.ShapeDtypeStruct((size,), jnp.int32))
  batch = Batch(*[examples if part in plan.feeds.sizes else None for part in Batch._fields])
  valid = jax.ShapeDtypeStruct((size,), jnp.float32)
  with nn.intercept_methods(_Forward(plan.objects.net)):
    # Functions of their own, since JAX may keep a trace, and this one has no gradients.
    jax.eval_shape(lambda *args: search.step(*args), state, batch, key)
    jax.eval_shape(lambda *args: search.evaluate(*args), state, examples, valid)
  arch = jax.jit(lambda key: first(key).state.arch)(key)
  search.decode(jax.device_get(arch), 0, control)


class _Forward:
  """Lets a network compute without gradients, in the form that traces in a third of the time."""

  def __init__(self, net: nn.Module) -> None:
    self._kind, self._inside = type(net), False

  def __call__(
    self,
    call: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    context: nn.module.InterceptorContext,
  ) -> Any:
    __tracebackhide__ = True
    is_network = isinstance(context.module, self._kind) and context.method_name == '__call__'
    if self._inside or not is_network:
      return call(*args, **kwargs)
    self._inside, net = True, context.module
    try:
      variables, args = lax.stop_gradient((net.variables, args))
      net = net.clone(parent=None, form='merged')
      return net.apply(variables, *args, **kwargs, mutable=['batch_stats'])[0]
    finally:
      self._inside = False
