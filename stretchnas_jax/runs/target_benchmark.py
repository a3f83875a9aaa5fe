"""A step compiled for a chip that is not here: does it fit, and how long does it take at least?"""

import re
import resource
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from stretchnas_jax.machine import faults, flops, hlo_counts, output, step_bounds
from stretchnas_jax.machine.step_bounds import Memory, Work
from stretchnas_jax.machine.targets import Target
from stretchnas_jax.runs import search_borders, steps
from stretchnas_jax.runs import task as task_lib
from stretchnas_jax.runs.task import Plan, Task

# The compiler for TPUs refuses a program that has no room, and names both sizes.
_NO_ROOM = re.compile(r'Used ([\d.]+)([KMG]?) of ([\d.]+)([KMG]?)')
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30}
_GROUPS = {'search': 'search', 'train': 'training'}


class Compiled(NamedTuple):
  """A step, compiled for one chip or several.

  Attributes:
    trace_seconds: JAX' part of the compilation.
    compile_seconds: XLA's part.
    compile_cpu_seconds: the same on all cores together.
    work: of one chip; None where the program has no room, and is not compiled.
    memory: of one chip; of a program without room only the total, as `temporary`.
  """

  trace_seconds: float
  compile_seconds: float
  compile_cpu_seconds: float
  work: Work | None
  memory: Memory


def compile_step(task: Task, plan: Plan) -> Compiled:
  """Compiles the step of a plan; no data and no device are needed.

  Args:
    task: the kind of run.
    plan: of the run, on devices of a target.

  Raises:
    Fault: XLA cannot compile it, for a reason other than its size.
  """
  begin, step, shapes = time.perf_counter(), task.compile(plan).step, _shapes(task, plan)
  lowered = step.lower(*shapes)
  tracing, cpu, begin = time.perf_counter() - begin, _cpu_seconds(), time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    memory = no_room(str(error))
    if memory is None:
      raise faults.Fault(
        f'XLA could not compile this: {output.printable(str(error).splitlines()[0])}; for a '
        'GPU try XLA_FLAGS=--xla_gpu_enable_triton_gemm=false, for any chip another version of JAX'
      ) from error
    return Compiled(tracing, time.perf_counter() - begin, _cpu_seconds() - cpu, None, memory)
  seconds, cpu = time.perf_counter() - begin, _cpu_seconds() - cpu
  counts = hlo_counts.count(compiled.as_text())
  products = flops.count(step.jaxpr(*shapes))
  work = Work(counts.kernels, counts.copies, counts.num_bytes, products, counts.padding_share)
  found = compiled.memory_analysis()
  memory = Memory(
    found.argument_size_in_bytes,
    found.output_size_in_bytes,
    found.alias_size_in_bytes,
    found.temp_size_in_bytes,
    found.generated_code_size_in_bytes,
  )
  return Compiled(tracing, seconds, cpu, work, memory)


def _shapes(task: Task, plan: Plan) -> tuple[Any, ...]:
  """Returns the shapes of the arguments of a step."""
  keys = jax.eval_shape(lambda: task_lib.keys_of(plan))
  position = jax.eval_shape(task.first(plan), keys[0])._replace(best=None)
  feed = plan.feeds.train
  batch = steps.one_of(feed.chunk(0, 0, 1, 1), 0)
  data, batch = jax.eval_shape(lambda *trees: trees, feed.data, batch)
  return position, data, batch, keys[1]


def _cpu_seconds() -> float:
  """Returns the seconds of all cores that this process and its ended children have used."""
  used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
  return sum(one.ru_utime + one.ru_stime for one in used)


def no_room(text: str) -> Memory | None:
  """Returns the memory of a program that the compiler refuses for want of room.

  Args:
    text: of the compiler's error; None is returned for any other one.
  """
  found = _NO_ROOM.search(text)
  if found is None or 'RESOURCE_EXHAUSTED' not in text:
    return None
  return Memory(0, 0, 0, int(float(found[1]) * _UNITS[found[2]]), 0)


def report(task: Task, plan: Plan, target: Target) -> dict[str, Any]:
  """Compiles the step of each phase of a run; returns the figures for a program.

  Args:
    task: the kind of run.
    plan: of the run, on the devices of the target.
    target: the chips.

  Returns:
    The figures of the first phase; the memory of the phase that needs the most, the batch that
    fits in all phases, and `hours_at_least` of all phases. A figure is None where the program has
    no room on the chips.
  """
  plans = [plan, *(search_borders.assumed_plans(plan) if len(plan.phases) > 1 else ())]
  every = [figures(compile_step(task, one), one, target) for one in plans]
  fullest = max(every, key=lambda one: one['memory_mb']['total'])
  spans = plan.settings.all_spans
  seconds = [
    span.epochs * span.steps_per_epoch * one['step_seconds_at_least']
    for one, span in zip(every, spans)
    if one['step_seconds_at_least'] is not None
  ]
  return {
    **every[0],
    'memory_mb': fullest['memory_mb'],
    'fits': fullest['fits'],
    'largest_batch_that_fits': min(one['largest_batch_that_fits'] for one in every),
    'steps': plan.settings.num_steps,
    'hours_at_least': sum(seconds) / 3600 if len(seconds) == len(spans) else None,
  }


def figures(compiled: Compiled, plan: Plan, target: Target) -> dict[str, Any]:
  """Returns the figures of one step.

  Args:
    compiled: the step.
    plan: of its run.
    target: the chips.
  """
  chip, work, settings = target.chip, compiled.work, plan.settings
  largest = step_bounds.largest_batch(
    chip, compiled.memory, settings.batch_size, settings.devices.count
  )
  bound = _bound(compiled, plan, target)
  return {
    'target': target.name,
    'chips': settings.devices.count,
    'device': chip.model,
    'trace_seconds': compiled.trace_seconds,
    'compile_seconds': compiled.compile_seconds,
    'compile_cpu_seconds': compiled.compile_cpu_seconds,
    'memory_mb': step_bounds.in_mib(chip, compiled.memory),
    'fits': step_bounds.fits(chip, compiled.memory),
    'batch_size': settings.batch_size,
    'largest_batch_that_fits': min(largest, plan.feeds.sizes['train']),
    'kernels': work and round(work.kernels),
    'copies': work and round(work.copies),
    'bytes': work and round(work.num_bytes),
    'padding': work and round(work.padding, 3),
    'flops': work and round(work.flops),
    'step_seconds_by': bound and bound.seconds,
    'step_bound_by': bound and bound.binds,
    'step_seconds_at_least': bound and bound.at_least,
  }


def _bound(compiled: Compiled, plan: Plan, target: Target) -> step_bounds.Bound | None:
  if compiled.work is None:
    return None
  model = plan.config.model
  rate = target.chip.rate(model.dtype, model.precision)
  return step_bounds.bound(target.chip, compiled.work, rate)


def words(found: dict[str, Any], kind: str) -> Sequence[str]:
  """Returns the figures as lines for a person.

  Args:
    found: of `report`.
    kind: of the run, 'search' or 'train'.
  """
  memory = found['memory_mb']
  verdict = 'it fits' if found['fits'] else 'it does not fit'
  lines = [
    f'target    {found["target"]}: {found["chips"]} x {found["device"]}, {memory["chip"]:,.0f} MiB',
    f'compiled  in {found["compile_seconds"]:.0f} s, after {found["trace_seconds"]:.0f} s of '
    'tracing',
    f'memory    {memory["total"]:,.0f} of {memory["usable"]:,.0f} MiB a chip: {verdict}; largest '
    f'batch about {found["largest_batch_that_fits"]:,}',
  ]
  if found['kernels'] is None:
    return lines
  by = found['step_seconds_by']
  padding = (
    f' ({found["padding"]:.0%} of the written bytes are padding)' if found['padding'] else ''
  )
  limits = ', '.join(f'{name} {seconds:.3g} s' for name, seconds in by.items())
  lines += [
    f'a step    {found["kernels"]:,} kernels, {found["copies"]:,} of them copies; '
    f'{found["bytes"] / 1e9:,.3g} GB moved{padding}; {found["flops"] / 1e12:,.3g} TFLOP, on each '
    'chip',
    f'time      at least {found["step_seconds_at_least"]:.3g} s a step; the limit is '
    f'{found["step_bound_by"]} ({limits})',
  ]
  if found['hours_at_least'] is not None:
    lines.append(
      f'whole     at least {found["hours_at_least"]:.3g} hours for the {found["steps"]:,} steps of '
      f'this {_GROUPS[kind]}, without evaluations'
    )
  return lines
