"""A run that begins with the weights and scores of another run.

Only weights, running averages, alpha and beta are taken. The number of the step, the schedules, the
moments of the optimizers and the random draws begin as in any new run.
"""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax.machine import faults, leaves
from stretchnas_jax.runs import json_files, trained
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.steps import Position
from stretchnas_jax.runs.task import Start

_TAKEN = ('params', 'batch_stats', 'arch')


def read(
  source: pathlib.Path | str | None,
  workdir: pathlib.Path | str,
  kind: str,
  parts: Parts | None = None,
  seeds: Sequence[int] | None = None,
) -> Start | None:
  """Reads a checkpoint of a run, with which another run is to begin.

  At its first start that is the newest one, and later the same one again. A run that has
  checkpoints of its own goes on from these. Then the source need not be there.

  Args:
    source: the folder of the run, or None.
    workdir: the folder of the new run, or of several.
    kind: of the new run, 'search' or 'train'.
    parts: own objects of both runs.
    seeds: of several new runs; None for one.

  Returns:
    The start, or None without a source.

  Raises:
    ValueError, OSError: one sentence that says why the run cannot be used.
  """
  if source is None:
    return None
  if source == '':  # it would be the working directory
    raise ValueError('start_from is empty; give the folder of a run, or leave it out')
  source, path = workdir_lib.absolute(source), workdir_lib.absolute(workdir)
  known = _known(path)
  again = known.get('run') == str(source)
  folders = [path] if seeds is None else [path / f'seed_{seed}' for seed in seeds]
  waiting = [folder for folder in folders if not _goes_on(folder)]
  if again and not waiting:
    return Start(known, None)
  if source == path:
    raise ValueError(f'--start-from is {source}, which is the workdir; it needs a new workdir')
  try:
    saved = trained.read_run(source, step=known.get('step') if again else None, parts=parts)
  except (ValueError, OSError) as error:
    if not again:
      raise
    raise ValueError(
      f'{waiting[0]} has no checkpoint yet, and still needs --start-from: {faults.one_line(error)}'
    ) from error
  if saved.kind != kind:
    other = 'search' if saved.kind == 'search' else 'training'
    raise ValueError(f'--start-from is {source}, which is a {other}; it must be of the same kind')
  taken = {name: getattr(saved.state, name) for name in _TAKEN if hasattr(saved.state, name)}
  facts = {'run': str(source), 'step': saved.step, 'weights': _digest(taken)}
  return Start(facts, lambda position: _with(position, taken, source))


def _goes_on(path: pathlib.Path) -> bool:
  """Returns whether the run of a folder needs no source any more."""
  return any((path / name).exists() for name in ('checkpoints.json', 'result.json'))


def _known(path: pathlib.Path) -> Mapping[str, Any]:
  """Returns the source of the run that is in a folder already, or {}."""
  if not (path / 'config.json').is_file():
    return {}
  found = json_files.read_object(path / 'config.json').get('start_from')
  return found if isinstance(found, dict) else {}


def _with(position: Position, taken: Mapping[str, Any], source: pathlib.Path) -> Position:
  """Returns a position with the weights and scores of another run.

  Args:
    position: before the first step.
    taken: by field of the state.
    source: the folder of the other run, for the sentence.
  """
  new = {name: getattr(position.state, name) for name in taken}
  here, there = leaves.flatten(new), leaves.flatten(dict(taken))
  for name in [*here, *there]:
    if name not in here or name not in there:
      where = 'this run' if name in here else source
      raise ValueError(f'--start-from: only {where} has {name}; both runs need the same network')
    wanted, found = leaves.describe(here[name]), leaves.describe(there[name])
    if wanted != found:
      raise ValueError(
        f'--start-from: {name} is {found[1]}{found[0]} in {source}, and {wanted[1]}{wanted[0]} '
        'here; both runs need the same network'
      )
  copied = jax.tree.map(jnp.copy, dict(taken))  # the first step reuses the memory of its state
  return position._replace(state=position.state._replace(**copied))


def _digest(taken: Mapping[str, Any]) -> str:
  """Returns a short text that changes with every number that is taken."""
  digest = hashlib.sha256()
  for name, leaf in leaves.flatten(dict(taken)).items():
    digest.update(name.encode() + np.asarray(leaves.raw(leaf)).tobytes())
  return digest.hexdigest()[:32]
