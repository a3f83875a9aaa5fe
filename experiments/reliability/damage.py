"""Damages the newest checkpoint in many ways: `python -m experiments.reliability.damage`.

Each damage is done to a fresh copy of the same three checkpoints. The restored state must be, bit
for bit, a saved one: the newest where the damage did no harm, else the one before it. In that case
the log must name the newest. The same command goes on after the damages that are done.
"""

import argparse
import collections
import logging
import pathlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.reliability import provenance
from experiments.reliability.damages import DAMAGES, STEPS, older
from stretchnas_jax.machine import leaves
from stretchnas_jax.runs import checkpoint

IDENTITY = {'config': 'this run'}


class State(NamedTuple):
  """A small state of the kinds of leaves that a run has."""

  step: jax.Array
  params: Any
  opt: Any
  key: jax.Array


def make_state(step: int) -> State:
  """Returns the state of a step; equal steps give equal bits in all processes."""
  keys = jax.random.split(jax.random.key(step), 3)
  # NumPy draws it, because two processes may compile a draw by JAX in two ways.
  kernel = jnp.asarray(np.random.default_rng(step).normal(size=(40, 50)), jnp.float32)
  params = {'kernel': kernel, 'bias': jnp.arange(7.0) + step}
  return State(jnp.int32(step), params, optax.adam(0.1).init(params), keys)


def make_runs(folder: pathlib.Path) -> dict[int, State]:
  """Saves the checkpoints of two runs that differ only in their identity.

  Args:
    folder: `this` and `other` in it become the folders of checkpoints.

  Returns:
    The states by step.
  """
  states = {step: make_state(step) for step in STEPS}
  for name, identity in ('this', IDENTITY), ('other', {'config': 'another run'}):
    with checkpoint.Checkpoints(folder / name) as manager:
      for step, state in states.items():
        manager.save(step, state, {'identity': identity})
  return states


# ---- trials --------------------------------------------------------------------------------------

GOOD = ('harmless', 'previous', 'refused')


class _Warnings(logging.Handler):
  """A log handler that keeps warnings.

  Attributes:
    texts: the warnings.
  """

  def __init__(self) -> None:
    super().__init__(logging.WARNING)
    self.texts: list[str] = []

  def emit(self, record: logging.LogRecord) -> None:
    """Keeps a record."""
    self.texts.append(record.getMessage())


def same(a: Any, b: Any) -> bool:
  """Returns True where two states are equal bit for bit.

  Args:
    a: a pytree of arrays.
    b: a pytree of the same structure.
  """
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(x.dtype == y.dtype and _bytes_of(x) == _bytes_of(y) for x, y in pairs)


def _bytes_of(leaf: Any) -> bytes:
  return np.asarray(leaves.raw(leaf)).tobytes()


def trial(runs: pathlib.Path, states: Mapping[int, State], seed: int) -> tuple[str, str]:
  """Damages the newest checkpoint, and sometimes all of them.

  Args:
    runs: the folder of `make_runs`.
    states: the states by step.
    seed: draws the damage.

  Returns:
    The name of the damage, and the outcome; see `outcome`.
  """
  rng = np.random.default_rng(seed)
  damage, every = DAMAGES[seed % len(DAMAGES)], rng.random() < 0.1
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'checkpoints'
    shutil.copytree(runs / 'this', path)
    shutil.copyfile(runs / 'this.json', path.with_name('checkpoints.json'))
    for step in STEPS[::-1] if every and damage is not older else STEPS[-1:]:
      damage(path / str(step), runs / 'other', rng)
    return damage.__name__.removeprefix('_'), outcome(path, states, every)


def outcome(path: pathlib.Path, states: Mapping[int, State], every: bool) -> str:
  """Restores from a folder of checkpoints, and judges the result.

  Args:
    path: the folder.
    states: the saved states by step.
    every: True where all checkpoints are damaged.

  Returns:
    A member of `GOOD`: 'harmless', 'previous', or 'refused' where all are damaged. Faults are
    'silent' for other numbers, 'restart', 'unnamed' and 'crash: ...'.
  """
  warnings = _Warnings()
  logging.getLogger().addHandler(warnings)
  try:
    with checkpoint.Checkpoints(path) as manager:
      found = manager.restore_latest(make_state(0), IDENTITY)
  except checkpoint.Unusable:
    return 'refused' if every else 'refused though others were whole'
  except Exception as error:
    return f'crash: {type(error).__name__}'
  finally:
    logging.getLogger().removeHandler(warnings)
  if found is None:
    return 'restart'
  step, state, _ = found
  if not same(state, states[step]):
    return 'silent'
  if step == STEPS[-1]:
    return 'harmless'
  newer = [other for other in STEPS if other > step]
  is_named = all(any(f'checkpoint {s} ' in text for text in warnings.texts) for s in newer)
  return 'previous' if is_named else 'unnamed'


# ---- the campaign --------------------------------------------------------------------------------


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--number', type=int, default=1000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  logging.getLogger('absl').setLevel(logging.CRITICAL)
  found = provenance.load('damage')
  if found.get('seed') != args.seed:
    found = {'damages': 0, 'by_damage': {}, 'seconds': 0}
  with tempfile.TemporaryDirectory() as folder:
    states = make_runs(pathlib.Path(folder))
    while found['damages'] < args.number:
      number = min(50, args.number - found['damages'])
      found = _more(found, pathlib.Path(folder), states, args.seed, number)
      print(found['damages'], found['outcomes'], 'bad:', found['bad'], flush=True)


def _more(
  found: Mapping[str, Any],
  folder: pathlib.Path,
  states: Mapping[int, State],
  seed: int,
  number: int,
) -> dict[str, Any]:
  """Adds some damages to the known results, writes them, and returns them.

  Args:
    found: the known results.
    folder: the folder of `make_runs`.
    states: the states by step.
    seed: of the campaign.
    number: of further damages.
  """
  begin = time.time()
  counts = {name: collections.Counter(results) for name, results in found['by_damage'].items()}
  first = seed + found['damages']
  for i in range(first, first + number):
    name, result = trial(folder, states, i)
    counts.setdefault(name, collections.Counter())[result] += 1
    if result not in GOOD:
      print(f'seed {i}: {name}: {result}', flush=True)
  totals = sum(counts.values(), collections.Counter())
  results = {
    'seed': seed,
    'damages': found['damages'] + number,
    'outcomes': dict(totals),
    'bad': sum(count for result, count in totals.items() if result not in GOOD),
    'by_damage': {name: dict(results) for name, results in sorted(counts.items())},
    'seconds': round(found['seconds'] + time.time() - begin),
  }
  provenance.save('damage', results)
  return results


if __name__ == '__main__':
  main()
