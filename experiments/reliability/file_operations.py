"""Fails every file operation of a save: `python -m experiments.reliability.file_operations`.

A process saves a third checkpoint beside two, of which the older one then goes. The n-th of its
file operations fails, or the process dies before it, for every n. After that the new or the
previous checkpoint must load bit for bit, a save that did not come about must have been said, and
the next save must succeed. The kinds of fault that this commit has been through are not repeated.
"""

import argparse
import collections
import errno
import itertools
import json
import logging
import multiprocessing
import os
import pathlib
import shutil
import socket
import tempfile
import threading
import time

from experiments.reliability import damage, interception, provenance
from stretchnas_jax.runs import checkpoint

PREVIOUS, NEW, KEEP = 20, 30, 2
# Whether reads and the like are failed too, whether all later operations fail as well, and how.
FAULTS = {
  'EIO': (True, False, errno.EIO),
  'EIO from there on': (True, True, errno.EIO),
  'ENOSPC': (False, False, errno.ENOSPC),
  'ENOSPC from there on': (False, True, errno.ENOSPC),
  'death': (False, False, interception.DEATH),
}
# What a full disk still lets happen.
FREES = {'unlink', 'unlinkat', 'rmdir'}
GOOD = ('new', 'new, and said', 'previous, and said', 'new, dead', 'previous, dead')
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['experiments.reliability.file_operations'])


def save_on_demand(channel):
  """Saves in each folder that comes through a socket, and answers what came of it."""
  interception.hand_over(channel)
  silence()
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
  state = damage.make_state(NEW)
  while path := channel.recv(4096).decode():
    try:
      with checkpoint.Checkpoints(path, KEEP) as manager:
        channel.send(b'ready')
        manager.save(NEW, state, {'identity': damage.IDENTITY})
      answer = 'saved'
    except checkpoint.SaveFailed as error:
      answer = f'said: {error}'
    except Exception as error:
      answer = f'{type(error).__name__}: {error}'
    channel.send(answer.encode()[:4000])


def silence():
  """Threads that fail have much to say besides."""
  logging.disable(logging.CRITICAL)
  threading.excepthook = lambda _: None


class Saver:
  """A process that saves, and that one can fail."""

  def __init__(self):
    self.channel, other = socket.socketpair()
    self.process = CONTEXT.Process(target=save_on_demand, args=(other,), daemon=True)
    self.process.start()
    other.close()
    self.watch = interception.Watch(self.channel)

  def close(self):
    self.process.kill()
    self.process.join()
    self.watch.close()
    self.channel.close()

  def save(self, path, decide):
    """`saved`, `said: ...`, `dead`, `stuck`, or an error that is not as it should be."""
    self.channel.send(str(path).encode())
    if not self.watch.until(self.channel) or self.channel.recv(4096) != b'ready':
      raise RuntimeError(f'nothing can be saved in {path}')
    if not self.watch.until(self.channel, decide):
      return 'stuck'
    try:
      return self.channel.recv(4096).decode() or 'dead'
    except ConnectionError:
      return 'dead'


class Fault:
  """Fails the n-th operation, counted from 1, in a folder; `n` 0 only counts.

  Attributes:
    seen: the operations there.
    hit: the one that failed, or None.
  """

  def __init__(self, folder, kind, n):
    self.folder, self.n = str(folder), n
    self.every, self.later, self.number = FAULTS[kind]
    self.seen, self.hit = [], None

  def __call__(self, operation):
    inside = any(path.startswith(self.folder) for path in operation.paths)
    spared = self.number == errno.ENOSPC and operation.name in FREES
    if not inside or spared or not (self.every or operation.changes):
      return 0
    self.seen.append(operation)
    count = len(self.seen)
    if not self.n or count < self.n or (count > self.n and not self.later):
      return 0
    self.hit = self.hit or operation
    return self.number


def prepare(folder):
  """Two checkpoints in `folder/checkpoints`; returns all states by step."""
  states = {step: damage.make_state(step) for step in damage.STEPS}
  with checkpoint.Checkpoints(folder / 'checkpoints', KEEP) as manager:
    for step in (PREVIOUS - 10, PREVIOUS):
      manager.save(step, states[step], {'identity': damage.IDENTITY})
  return states


def verdict(path, states, answer):
  """What is there after a save that has ended with `answer`; one of GOOD, or what is wrong."""
  sentence = answer.startswith('said: ') and '\n' not in answer and len(answer) < 500
  if not (sentence or answer in ('saved', 'dead')):
    return answer
  try:
    with checkpoint.Checkpoints(path, KEEP) as manager:
      step, state, _ = manager.restore_latest(damage.make_state(0), damage.IDENTITY)
      manager.save(step + 10, state, {'identity': damage.IDENTITY})
    with checkpoint.Checkpoints(path, KEEP) as manager:
      again, state_again, _ = manager.restore_latest(damage.make_state(0), damage.IDENTITY)
  except Exception as error:
    return f'after "{answer}" it cannot go on: {type(error).__name__}: {error}'
  if step not in (PREVIOUS, NEW) or again != step + 10:
    return f'step {step}, then {again}'
  if not (damage.same(state, states[step]) and damage.same(state_again, states[step])):
    return 'other numbers'
  what = 'new' if step == NEW else 'previous'
  return what + {'saved': '', 'dead': ', dead'}.get(answer, ', and said')


class Campaign:
  """Trials on copies of the same two checkpoints."""

  def __init__(self, folder):
    self.folder, self.saver, self.number = pathlib.Path(folder), None, itertools.count()
    self.states = prepare(self.folder / 'original')

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.stop()

  def stop(self):
    if self.saver:
      self.saver.close()
      self.saver = None

  def trial(self, kind, n):
    """`(fault, what came of it)` of one save."""
    place = self.folder / f'trial_{next(self.number)}'
    shutil.copytree(self.folder / 'original', place)
    self.saver = self.saver or Saver()
    fault = Fault(place, kind, n)
    answer = self.saver.save(place / 'checkpoints', fault)
    if answer in ('dead', 'stuck'):
      self.stop()
    result = verdict(place / 'checkpoints', self.states, answer)
    shutil.rmtree(place)
    return fault, result


def all_of(campaign, kind):
  """The results of all n, counted; those that are bad, in words."""
  begin, counts, bad = time.time(), collections.Counter(), []
  for n in itertools.count(1):
    fault, result = campaign.trial(kind, n)
    if not fault.hit:  # the save has fewer operations
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


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--faults', nargs='*', default=list(FAULTS), choices=list(FAULTS))
  args = parser.parse_args()
  if why := interception.available():
    raise SystemExit(f'error: {why}')
  before = provenance.load('file_operations')
  found = before['by_fault'] if before.get('commit') == provenance.commit() else {}
  with tempfile.TemporaryDirectory() as folder:
    silence()
    with Campaign(folder) as campaign:
      seen = campaign.trial('EIO', 0)[0].seen
      for kind in [kind for kind in args.faults if kind not in found]:
        found[kind] = all_of(campaign, kind)
        print(kind, json.dumps(found[kind]), flush=True)
        keep(found, seen)


def keep(found, seen):
  """Writes what is known so far."""
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
