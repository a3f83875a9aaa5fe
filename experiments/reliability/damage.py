"""Damages the newest checkpoint in many ways: `python -m experiments.reliability.damage`.

Each damage is dealt to a fresh copy of the same three checkpoints. What is restored must be, bit
for bit, what was saved: the newest where the damage did no harm, else the one before it, and the
newest must then be named in the log. The same command goes on after what has been done.
"""

import argparse
import collections
import logging
import pathlib
import shutil
import tempfile
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.reliability import provenance
from stretchnas_jax.machine import leaves
from stretchnas_jax.runs import checkpoint

STEPS = (10, 20, 30)
IDENTITY = {'config': 'this run'}


class State(NamedTuple):
  step: jax.Array
  params: Any
  opt: Any
  key: jax.Array


def make_state(step):
  keys = jax.random.split(jax.random.key(step), 3)
  # Not drawn by JAX: two processes may compile that in two ways, which differ in a last bit.
  kernel = jnp.asarray(np.random.default_rng(step).normal(size=(40, 50)), jnp.float32)
  params = {'kernel': kernel, 'bias': jnp.arange(7.0) + step}
  return State(jnp.int32(step), params, optax.adam(0.1).init(params), keys)


def make_runs(folder):
  """`folder/this` and `folder/other`, alike but for their identity; returns the states by step."""
  states = {step: make_state(step) for step in STEPS}
  for name, identity in ('this', IDENTITY), ('other', {'config': 'another run'}):
    with checkpoint.Checkpoints(folder / name) as manager:
      for step, state in states.items():
        manager.save(step, state, {'identity': identity})
  return states


# ---- damages: (folder of a checkpoint, those of the other run, random numbers) -------------------


def some_file(step, rng):
  found = sorted(path for path in step.rglob('*') if path.is_file())
  return found[rng.integers(len(found))]


def truncate(step, other, rng):
  file = some_file(step, rng)
  file.write_bytes(file.read_bytes()[: rng.integers(file.stat().st_size + 1)])


def flip(step, other, rng):
  file = some_file(step, rng)
  data = bytearray(file.read_bytes())
  for _ in range(rng.integers(1, 9)) if data else ():
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
  file.write_bytes(data)


def empty(step, other, rng):
  some_file(step, rng).write_bytes(b'')


def zero_block(step, other, rng):
  file = some_file(step, rng)
  data = file.read_bytes()
  start = int(rng.integers(len(data) + 1))
  file.write_bytes(data[:start] + bytes(len(data[start : start + 512])) + data[start + 512 :])


def append(step, other, rng):
  file = some_file(step, rng)
  file.write_bytes(file.read_bytes() + rng.bytes(int(rng.integers(1, 600))))


def remove_file(step, other, rng):
  some_file(step, rng).unlink()


def remove_half(step, other, rng):
  for file in sorted(path for path in step.rglob('*') if path.is_file()):
    if rng.random() < 0.5:
      file.unlink()


def remove_part(step, other, rng):
  folders = sorted(path for path in step.rglob('*') if path.is_dir())
  shutil.rmtree(folders[rng.integers(len(folders))])


def remove_content(step, other, rng):
  shutil.rmtree(step)
  step.mkdir()


def remove_all(step, other, rng):
  shutil.rmtree(step)


def foreign(step, other, rng):
  """The same step of another run."""
  shutil.rmtree(step)
  shutil.copytree(other / step.name, step)


def older(step, other, rng):
  """An older checkpoint under the name of the newest."""
  shutil.rmtree(step)
  shutil.copytree(step.parent / str(STEPS[rng.integers(2)]), step)


def mixed(step, other, rng):
  """A part of it is that of an older one, or of the other run."""
  part = ('state', 'meta')[rng.integers(2)]
  sources = step.parent / str(STEPS[0]), other / step.name, other / str(STEPS[0])
  source = sources[rng.integers(step == sources[0], 3)]
  shutil.rmtree(step / part)
  shutil.copytree(source / part, step / part)


def exchanged(step, other, rng):
  """One file is its namesake of another checkpoint, or one of other content."""
  file = some_file(step, rng)
  sources = step.parent / str(STEPS[1]), other / step.name
  source = sources[rng.integers(step == sources[0], 2)]
  shutil.copyfile(some_file(source, rng), file)


def a_file_in_its_place(step, other, rng):
  shutil.rmtree(step)
  step.write_bytes(rng.bytes(20))


DAMAGES = (
  truncate, flip, empty, zero_block, append, remove_file, remove_half, remove_part, remove_content,
  remove_all, foreign, older, mixed, exchanged, a_file_in_its_place,
)  # fmt: skip


# ---- trials --------------------------------------------------------------------------------------


class Warnings(logging.Handler):
  """Keeps what is said."""

  def __init__(self):
    super().__init__(logging.WARNING)
    self.texts = []

  def emit(self, record):
    self.texts.append(record.getMessage())


def same(a, b):
  """Whether two states are equal bit for bit."""
  raw = lambda leaf: np.asarray(leaves.raw(leaf))
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(x.dtype == y.dtype and raw(x).tobytes() == raw(y).tobytes() for x, y in pairs)


def trial(runs, states, seed):
  """(name of the damage, outcome) of one damage, drawn by `seed`.

  Outcomes: 'harmless', 'previous', 'refused' (an error, all of them being damaged) are as they
  should be; 'silent', 'restart', 'unnamed' and 'crash: ...' are not.
  """
  rng = np.random.default_rng(seed)
  deal, every = DAMAGES[seed % len(DAMAGES)], rng.random() < 0.1
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'checkpoints'
    shutil.copytree(runs / 'this', path)
    shutil.copyfile(runs / 'this.json', path.with_name('checkpoints.json'))
    for step in STEPS[::-1] if every and deal is not older else STEPS[-1:]:
      deal(path / str(step), runs / 'other', rng)
    return deal.__name__, outcome(path, states, every)


def outcome(path, states, every):
  """What restoring from a folder comes to."""
  said = Warnings()
  logging.getLogger().addHandler(said)
  try:
    with checkpoint.Checkpoints(path) as manager:
      found = manager.restore_latest(make_state(0), IDENTITY)
  except checkpoint.Unusable:
    return 'refused' if every else 'refused though others were whole'
  except Exception as error:
    return f'crash: {type(error).__name__}'
  finally:
    logging.getLogger().removeHandler(said)
  if found is None:
    return 'restart'
  step, state, _ = found
  if not same(state, states[step]):
    return 'silent'
  if step == STEPS[-1]:
    return 'harmless'
  named = all(any(f'checkpoint {s} ' in t for t in said.texts) for s in STEPS if s > step)
  return 'previous' if named else 'unnamed'


GOOD = ('harmless', 'previous', 'refused')


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--number', type=int, default=1000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  logging.getLogger('absl').setLevel(logging.CRITICAL)
  found = provenance.load('damage')
  found = found if found.get('seed') == args.seed else {'damages': 0, 'by_damage': {}, 'seconds': 0}
  with tempfile.TemporaryDirectory() as folder:
    states = make_runs(pathlib.Path(folder))
    while found['damages'] < args.number:
      number = min(50, args.number - found['damages'])
      found = more(found, pathlib.Path(folder), states, args.seed, number)
      print(found['damages'], found['outcomes'], 'bad:', found['bad'], flush=True)


def more(found, folder, states, seed, number):
  """Adds so many damages to what is known, and writes it."""
  begin, counts = time.time(), collections.defaultdict(collections.Counter)
  counts |= {name: collections.Counter(results) for name, results in found['by_damage'].items()}
  first = seed + found['damages']
  for i in range(first, first + number):
    name, result = trial(folder, states, i)
    counts[name][result] += 1
    if result not in GOOD:
      print(f'seed {i}: {name}: {result}', flush=True)
  totals = sum(counts.values(), collections.Counter())
  found = {
    'seed': seed,
    'damages': found['damages'] + number,
    'outcomes': dict(totals),
    'bad': sum(n for result, n in totals.items() if result not in GOOD),
    'by_damage': {name: dict(results) for name, results in sorted(counts.items())},
    'seconds': round(found['seconds'] + time.time() - begin),
  }
  provenance.save('damage', found)
  return found


if __name__ == '__main__':
  main()
