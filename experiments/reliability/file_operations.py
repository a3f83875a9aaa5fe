"""Fails every file operation of a save: `python -m experiments.reliability.file_operations`.

A process saves a third checkpoint beside two, and the oldest one is removed. The n-th of its file
operations fails, or the process dies before it, for every n. Afterwards the new or the previous
checkpoint must load bit for bit. A save that failed must have been reported, and the next save must
succeed. Kinds of fault that are done at this commit are not repeated.
"""

import argparse
import collections
import itertools
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from experiments.reliability import damage, interception, provenance
from experiments.reliability.damages import STEPS
from experiments.reliability.failing_saver import FAULTS, KEEP, NEW, Fault, Saver, silence
from experiments.reliability.interception import Operation
from stretchnas_jax.runs import checkpoint

_PREVIOUS = 20  # the step of the newest checkpoint before a save
GOOD = ('new', 'new, and said', 'previous, and said', 'new, dead', 'previous, dead')

# ---- trials --------------------------------------------------------------------------------------


def prepare(folder: pathlib.Path) -> dict[int, damage.State]:
  """Saves two checkpoints in `folder/checkpoints`, and returns all states by step."""
  states = {step: damage.make_state(step) for step in STEPS}
  with checkpoint.Checkpoints(folder / 'checkpoints', KEEP) as manager:
    for step in (_PREVIOUS - 10, _PREVIOUS):
      manager.save(step, states[step], {'identity': damage.IDENTITY})
  return states


def verdict(path: pathlib.Path, states: Mapping[int, damage.State], answer: str) -> str:
  """Judges a folder of checkpoints after a save.

  Args:
    path: the folder.
    states: the states by step.
    answer: the outcome of the save; see `Saver.save`.

  Returns:
    A member of `GOOD`, or the fault in words.
  """
  is_sentence = answer.startswith('said: ') and '\n' not in answer and len(answer) < 500
  if not (is_sentence or answer in ('saved', 'dead')):
    return answer
  try:
    with checkpoint.Checkpoints(path, KEEP) as manager:
      step, state, _ = manager.restore_latest(damage.make_state(0), damage.IDENTITY)
      manager.save(step + 10, state, {'identity': damage.IDENTITY})
    with checkpoint.Checkpoints(path, KEEP) as manager:
      next_step, next_state, _ = manager.restore_latest(damage.make_state(0), damage.IDENTITY)
  except Exception as error:
    return f'after "{answer}" it cannot go on: {type(error).__name__}: {error}'
  if step not in (_PREVIOUS, NEW) or next_step != step + 10:
    return f'step {step}, then {next_step}'
  if not (damage.same(state, states[step]) and damage.same(next_state, states[step])):
    return 'other numbers'
  found = 'new' if step == NEW else 'previous'
  return found + {'saved': '', 'dead': ', dead'}.get(answer, ', and said')


class Campaign:
  """Trials on copies of the same two checkpoints; also a context manager.

  Attributes:
    folder: `original` in it holds the two checkpoints.
    states: the states by step.
  """

  def __init__(self, folder: str | pathlib.Path) -> None:
    """Saves the two checkpoints in an empty folder."""
    self.folder = pathlib.Path(folder)
    self.states = prepare(self.folder / 'original')
    self._saver: Saver | None = None
    self._numbers = itertools.count()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: Any) -> None:
    self._stop()

  def _stop(self) -> None:
    if self._saver:
      self._saver.close()
      self._saver = None

  def trial(self, kind: str, n: int) -> tuple[Fault, str]:
    """Saves once with a fault.

    Args:
      kind: a key of `FAULTS`.
      n: the operation that fails, from 1; 0 fails none.

    Returns:
      The fault, and the verdict.
    """
    place = self.folder / f'trial_{next(self._numbers)}'
    shutil.copytree(self.folder / 'original', place)
    self._saver = self._saver or Saver()
    fault = Fault(place, kind, n)
    answer = self._saver.save(place / 'checkpoints', fault)
    if answer in ('dead', 'stuck'):
      self._stop()
    result = verdict(place / 'checkpoints', self.states, answer)
    shutil.rmtree(place)
    return fault, result


# ---- the campaign --------------------------------------------------------------------------------


def _try_all(campaign: Campaign, kind: str) -> dict[str, Any]:
  """Returns the counted verdicts of all n, and those that are bad."""
  begin = time.time()
  counts: collections.Counter[str] = collections.Counter()
  bad = []
  for n in itertools.count(1):
    fault, result = campaign.trial(kind, n)
    if not fault.hit:  # The save has fewer operations.
      break
    counts[result if result in GOOD else 'bad'] += 1
    if result not in GOOD:
      paths = ' '.join(fault.hit.paths).replace(str(campaign.folder), '')
      bad.append(f'{n} {fault.hit.name} {paths}: {result}')
      print(kind, bad[-1], flush=True)
  return {
    'operations': n - 1,
    **{result: counts[result] for result in GOOD if counts[result]},
    'bad': counts['bad'],
    'bad_ones': bad,
    'seconds': round(time.time() - begin),
  }


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--faults', nargs='*', default=list(FAULTS), choices=list(FAULTS))
  args = parser.parse_args()
  reason = interception.reason_against()
  if reason:
    raise SystemExit(f'error: {reason}')
  before = provenance.load('file_operations')
  found = before['by_fault'] if before.get('commit') == provenance.commit() else {}
  with tempfile.TemporaryDirectory() as folder:
    silence()
    with Campaign(folder) as campaign:
      seen = campaign.trial('EIO', 0)[0].seen
      for kind in [kind for kind in args.faults if kind not in found]:
        found[kind] = _try_all(campaign, kind)
        print(kind, json.dumps(found[kind]), flush=True)
        _keep(found, seen)


def _keep(found: Mapping[str, dict[str, Any]], seen: Sequence[Operation]) -> None:
  """Writes all that is known so far."""
  provenance.save('file_operations', {
    'operations_of_a_save': len(seen),
    'operations_that_change_something': sum(one.changes for one in seen),
    'operations_by_name': dict(collections.Counter(one.name for one in seen).most_common()),
    'faults': sum(one['operations'] for one in found.values()),
    'bad': sum(one['bad'] for one in found.values()),
    'by_fault': found,
  })  # fmt: skip


if __name__ == '__main__':
  main()
