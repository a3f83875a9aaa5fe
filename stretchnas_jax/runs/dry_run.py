"""What a search would do: `search --dry-run`. No step is compiled, and no file is written."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from stretchnas_jax import config as config_lib
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches import opening
from stretchnas_jax.data.datasets import synthetic
from stretchnas_jax.machine import faults
from stretchnas_jax.networks import sizes
from stretchnas_jax.runs import history, phases, report
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.search_task import SEARCH
from stretchnas_jax.runs.task import Plan

_FILES = (
  'config.json', 'run.json', 'identity.json', history.SPACE, 'checkpoints/', 'checkpoints.json',
  'metrics.jsonl', 'genotypes.jsonl', history.SCORES, 'genotype.json', 'cells.svg', 'result.json',
  report.NAME,
)  # fmt: skip


def describe(config: ConfigDict, parts: Parts | Mapping[str, Any] | None = None) -> dict[str, Any]:
  """Returns what a search would do, as one object for JSON.

  Args:
    config: of the search.
    parts: the researcher's own objects.

  Returns:
    `text`, lines for a person, and the facts of the search by name. `supernet_params` is of the
    first phase: the weights of later ones depend on the operations that stay. `missing_data` is
    None, or says that a published data set is not there; then all sizes are those published.

  Raises:
    ValueError, OSError: one sentence that names what cannot work.
  """
  plan, missing = _plan(config, Parts.of(parts))
  with contextlib.closing(plan):
    text = SEARCH.describe(plan)
    if missing is not None:
      text += f'\nmissing   the images; sizes are those published: {missing}'
    return {'text': text, **_facts(plan), 'missing_data': missing}


def _plan(config: ConfigDict, parts: Parts) -> tuple[Plan, str | None]:
  """Returns the plan of a search, with noise where its data set is not there, and its fault."""
  try:
    return SEARCH.plan(config, parts), None
  except FileNotFoundError as error:
    data = config.data
    if parts.data is not None or data.path or not synthetic.is_published(data.name):
      raise
    noise, _ = opening.random_dataset(data)
    return SEARCH.plan(config, dataclasses.replace(parts, data=noise)), faults.one_line(error)


def _facts(plan: Plan) -> dict[str, Any]:
  """Returns the facts of a planned search by name."""
  net, table, feeds = plan.objects.net, plan.objects.table, plan.feeds
  return {
    'space': {
      'nodes': net.space.graph.num_intermediate,
      'primitives': list(net.space.primitives),
      'topology': 'own' if plan.parts.topology is not None else plan.config.topology.kind,
      'codes': int(table.mask.sum()),
    },
    'supernet_params': sizes.count_net_params(net, feeds.image_shape),
    'edges': len(net.space.graph.edges),
    'operations': net.space.num_operations,
    'epochs': plan.settings.epochs,
    'steps': plan.settings.num_steps,
    'batch_size': plan.settings.batch_size,
    'phases': [_phase(plan, phase) for phase in plan.phases],
    'parts': dict(feeds.sizes),
    'devices': plan.settings.devices.describe(),
    'files': list(_FILES),
  }


def _phase(plan: Plan, phase: phases.Phase) -> dict[str, Any]:
  """Returns the facts of one phase; `fields` are those in which it differs from the config."""
  feeds = plan.phase_feeds[phase.number]
  of_run, own = config_lib.flatten(plan.config), config_lib.flatten(phase.config)
  own.pop('search.phases')
  steps_per_epoch = feeds.train.steps_per_epoch
  return {
    'epochs': phase.epochs,
    'steps': phase.epochs * steps_per_epoch,
    'steps_per_epoch': steps_per_epoch,
    'num_layers': phase.config.model.num_layers,
    'keep': phase.keep,
    'new': [name for name in phases.NEW if name in phase.new],
    'parts': dict(feeds.sizes),
    'fields': {name: value for name, value in own.items() if value != of_run[name]},
  }
