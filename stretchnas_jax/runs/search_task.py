"""A search as a `Task`: its plan, its compiled programs, its epoch ends, its result."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells import relaxation, topology
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches import opening
from stretchnas_jax.data.batches.examples import Batch
from stretchnas_jax.learning import bilevel, monitors
from stretchnas_jax.machine import parallel
from stretchnas_jax.networks import initializers, sizes
from stretchnas_jax.runs import (
  build,
  combinations,
  commands,
  history,
  looked_up,
  monitoring,
  own_parts,
  screen,
  search_borders,
  search_phases,
  steps,
)
from stretchnas_jax.runs import phases as phases_lib
from stretchnas_jax.runs import plan as plan_lib
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.runner import Run
from stretchnas_jax.runs.settings import Span
from stretchnas_jax.runs.task import Phases, Plan, Programs, Task, fields_of
from stretchnas_jax.views import cells


def plan_search(
  config: ConfigDict, parts: Parts | None = None, devices: parallel.Devices | None = None
) -> Plan:
  """Checks a config, loads its data and builds its objects.

  Args:
    config: a search config.
    parts: the researcher's own objects.
    devices: on which it runs; None for those of this job.

  Raises:
    ValueError: something cannot work; the sentence names it.
  """
  parts = parts or Parts()
  config_lib.validate(config, config_lib.search_config(), build.CHOICES)
  devices = devices or parallel.Devices(config.parallel.backend)
  plan_lib.check_devices('search.batch_size', config.search.batch_size, devices)
  plan_lib.check_form(config.model.form, devices.platform)
  plan_lib.check_even(config.model.channels, 'in a search')
  phases = phases_lib.read(config, parts.phases)
  if len(phases) == 1:
    combinations.check(phases[0].config, parts.in_phase(phases[0].parts))
  for phase in phases if len(phases) > 1 else ():
    _check_phase(phase, parts, phase is phases[-1], devices.platform)
  feeds = opening.open_searches([phase.config for phase in phases], parts.data)
  settings = plan_lib.settings_of(config, config.search, feeds[0].train.steps_per_epoch, devices)
  if len(phases) > 1:
    lengths = [Span(p.epochs, own.train.steps_per_epoch) for p, own in zip(phases, feeds)]
    settings = settings._replace(spans=tuple(lengths))
  plan = Plan(config, fields_of(config, parts), feeds[0], settings, None, parts)
  plan = plan._replace(phases=phases, phase_feeds=tuple(feeds))
  with own_parts.naming(parts):
    plan = plan._replace(objects=search_phases.plan_of(plan, 0, {}).objects)
    search_borders.check_borders(plan)
  own_parts.check(plan)
  return plan


def _check_phase(phase: phases_lib.Phase, parts: Parts, last: bool, platform: str) -> None:
  """Raises ValueError where a field of a phase cannot work."""
  try:
    config_lib.validate(phase.config, config_lib.search_config(), build.CHOICES)
    plan_lib.check_form(phase.config.model.form, platform)
    plan_lib.check_even(phase.config.model.channels, 'in a search')
    config = phase.config.copy_and_resolve_references()
    config.search.warmup_epochs = 0  # alpha and beta may rest for a whole phase
    if not last:
      config.relaxation.balance = True  # the cell is decoded from a later phase
    combinations.check(config, parts.in_phase(phase.parts))
  except ValueError as error:
    raise ValueError(f'config.search.phases[{phase.number}]: {error}') from error


def describe_plan(plan: Plan) -> str:
  """Returns a few lines about a planned search, for a person."""
  config, settings, net = plan.phases[0].config, plan.settings, plan.objects.net
  graph, operations = net.space.graph, len(net.space.primitives)
  codes = int(plan.objects.table.mask.sum())
  topology = 'of your own' if plan.parts.topology is not None else config.topology.kind
  rule = 'a rule of your own' if plan.parts.rule is not None else config.rule.kind
  params = sizes.count_net_params(net, plan.feeds.image_shape)
  lines = [
    plan_lib.describe_data(plan.feeds, settings.batch_size),
    f'space     {graph.num_intermediate} nodes, {len(graph.edges)} edges, '
    f'{operations} operations; topology {topology}, {codes} codes',
    f'supernet  {net.num_layers} cells, C {net.channels}, {net.stem} stem, '
    f'{params:,} weights, {config.model.dtype}',
    f'learning  {rule}, {settings.epochs} epochs of {settings.steps_per_epoch} '
    f'steps, batch {settings.batch_size}; SGD {config.weights.learning_rate:g}, cosine by '
    f'{config.weights.schedule_by}',
    f'devices   {settings.devices.describe()}',
  ]
  if graph.output == 'last':  # NAS-Bench-201
    lines.append(f'table     {looked_up.source()}')
  if len(plan.phases) > 1:
    lines += search_phases.lines(plan)
  if own := [name for name in plan.parts.names() if name != 'data']:
    lines.append(f'own       {", ".join(own)}')
  return '\n'.join(lines)


def compile_programs(plan: Plan) -> Programs:
  """Returns the compiled parts of a search; those of one seed serve every other."""
  programs = _programs_of(plan)
  programs.others[search_phases.recipe(plan, 0, {})] = plan.objects, programs
  return programs


def _programs_of(plan: Plan) -> Programs:
  """Returns the compiled parts of one phase."""
  search, devices = plan.objects.search, plan.settings.devices
  step = steps.compile_step(search.step, _batch_of, plan.feeds.train, devices)
  evaluate = steps.compile_evaluation(search.evaluate, plan.feeds.val, devices)
  cell = steps.compile_evaluation(search.evaluate, plan.feeds.val, devices)
  first = initializers.compiled(search_phases.first(plan))
  return Programs(first, step, {'val': evaluate, screen.CELL: cell}, {})


def _batch_of(fields: dict) -> Batch:
  return Batch(fields['train'], fields.get('val_alpha'), fields.get('val_beta'))


def _evaluations(plan: Plan) -> dict[str, int]:
  return {'val': plan.settings.epochs}


def _begin(run: Run) -> None:
  """Writes what the scores of all epochs belong to."""
  objects = run.now.objects
  run.folder.write_json(history.SPACE, history.facts_line(objects.net.space, objects.table))


def _end_epoch(run: Run, state: Any, line: dict) -> tuple[dict, dict]:
  """Validates, derives the cell and writes it down; an error of an own part is a `Fault`."""
  objects, loop, own = run.now.objects, run.loop, run.plan.parts
  search = objects.search
  val = run.measure('val', state)
  arch, control = run.plan.settings.devices.fetch((state.arch, state.control))
  more = {'val_loss': val['loss'], 'val_accuracy': val['accuracy']}
  step = line['step']
  with own_parts.naming(own):
    mixture, strength, (found, notes) = _read(search, arch, step, control)
  more |= _architecture_metrics(objects, search.topology_logits(arch, step, control), mixture[0])
  shape, expected = run.now.feeds.image_shape, mixture
  more |= monitoring.costs_of(objects, run.now.config, shape, expected, found)
  if objects.monitors:
    with own_parts.naming(own):
      control = monitors.decide(objects.monitors, arch, control, line | more, found)
      mixture, strength, (found, notes) = _read(search, arch, step, control)
    more |= monitoring.costs_of(objects, run.now.config, shape, expected, found)
    state = state._replace(control=run.plan.settings.devices.replicate(control))
    loop.position = loop.position._replace(state=state)
    loop.finished = monitors.has_stopped(control)
  at = {'step': step, 'epoch': line['epoch']}
  scores = history.scores_line(arch, objects.table, mixture[0], mixture[1], strength)
  loop.lines[history.SCORES].append({**at, **scores})
  cell = {'genotype': found.to_dict(), 'notes': notes, **looked_up.looked_up(found)}
  loop.lines['genotypes.jsonl'].append({**at, **cell})
  more |= screen.cell_accuracy(run, state, line['epoch'], found)
  row = screen.search_row(run, line | more, found, (strength, mixture[1], arch.beta))
  return more, {'val': val['accuracy'], 'r': more['penalty'], 'row': row}


def _read(search: bilevel.Search, arch: Any, step: int, control: Any) -> tuple:
  """Returns mixture, strengths and decoded cell of an evaluation."""
  return tuple(of(arch, step, control) for of in (search.mixture, search.strength, search.decode))


def _architecture_metrics(
  objects: monitoring.PhaseObjects,
  logits: dict[str, Float[AnyArray, 'R K']],
  op_weights: dict[str, Float[AnyArray, '*L E O']],
) -> dict[str, float]:
  """Returns how far alpha and beta have decided, and the weight of `none` where it may be chosen.

  Args:
    objects: of the search.
    logits: of the codes, by cell type.
    op_weights: of an evaluation, by cell type.
  """
  table, logits = objects.table, logits.values()
  mean = lambda values: float(sum(values) / len(values))
  return {
    'penalty': float(sum(topology.invalid_topology_penalty(one, table) for one in logits)),
    'alpha_entropy': mean([relaxation.entropy(weights) for weights in op_weights.values()]),
    'beta_entropy': mean([topology.beta_entropy(one, table) for one in logits]),
    **none_weights(op_weights, objects.net.space.primitives),
  }


def none_weights(
  op_weights: dict[str, Float[AnyArray, '*L E O']], primitives: Sequence[str]
) -> dict[str, float]:
  """Returns the mean and the largest weight of `none` over the edges of both cells.

  Args:
    op_weights: by cell type.
    primitives: names of the operations; without `none` the result is {}.
  """
  if 'none' not in primitives:
    return {}
  i = tuple(primitives).index('none')
  found = jnp.concatenate([jnp.ravel(weights[..., i]) for weights in op_weights.values()])
  return {'none_weight_mean': float(found.mean()), 'none_weight_max': float(found.max())}


def _result(run: Run) -> dict:
  """Writes the cell and its drawing; returns the content of `result.json`."""
  loop, state = run.loop, run.loop.position.state
  arch, control = run.plan.settings.devices.fetch((state.arch, state.control))
  found, notes = run.now.objects.search.decode(arch, loop.step, control)
  run.notes = notes
  for note in notes:
    logging.warning('%s', note)
  run.folder.write_text('genotype.json', genotype_lib.to_json(found))
  run.folder.write_text('cells.svg', cells.svg(found))
  return {
    'val_accuracy': loop.last['val_accuracy'],
    'epochs': loop.epochs_done,
    'seconds': loop.seconds,
    'seed': run.plan.config.seed,
    'supernet_params': sizes.count_net_params(run.plan.objects.net, run.plan.feeds.image_shape)
    if len(run.plan.phases) > 1
    else sum(x.size for x in jax.tree.leaves(state.params)),
    'penalty': loop.last['penalty'],
    'genotype': found.to_dict(),
  }


def _report(run: Run, result: dict) -> str:
  """Returns the last words of a search."""
  path = run.folder.path
  found = genotype_lib.from_fields(result['genotype'], run.now.objects.net.space.primitives)
  train = commands.train_command(run.plan.config, path, found, run.plan.parts)
  file = path / 'genotype.json'
  penalty, pruned = result['penalty'], '; '.join(run.notes) or 'nothing was pruned'
  state = 'every node is reached' if penalty == 0 else 'the best codes do not reach every node'
  return '\n'.join(
    [
      genotype_lib.summary(found),
      *screen.last_words(run),
      f'validation accuracy {result["val_accuracy"]:.4f}; r(beta) {penalty:.3g}, {state}; {pruned}',
      f'{result["seconds"]:.0f} s; the cell is in {file}, drawn in cells.svg',
      f'train it: {train}',
      f'draw it:  {commands.command("draw", [file], options={"out": "cells.png"})}',
      f'sizes:    {commands.command("describe", [file], options=commands.trust(run.plan.parts))}',
    ]
  )


SEARCH = Task(
  kind='search',
  noun='search',
  line_files=('metrics.jsonl', 'genotypes.jsonl', history.SCORES),
  shared_fields=('epochs', 'supernet_params'),
  defaults=config_lib.search_config,
  plan=plan_search,
  describe=describe_plan,
  compile=compile_programs,
  evaluations=_evaluations,
  begin=_begin,
  end_epoch=_end_epoch,
  result=_result,
  report=_report,
  first=search_phases.first,
  has_ended=lambda state: monitors.has_stopped(state.control),
  phases=Phases(
    stage=functools.partial(search_phases.stage, _programs_of),
    decide=search_borders.decide,
    cross=search_borders.cross,
    describe=search_phases.describe,
  ),
)
