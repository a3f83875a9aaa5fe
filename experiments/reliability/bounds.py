"""Feeds hostile data files to readers: `python -m experiments.reliability.bounds`.

The files are CIFAR's pickles and archives, and images. A reader may succeed, or refuse a file with
one sentence. It must stay within bounds of memory and time. Each reader works in a child process,
whose address space is limited. A child that dies counts as a crash.
"""

import argparse
import collections
import functools
import json
import logging
import multiprocessing
import pathlib
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.reliability import hostile_archives, hostile_images, hostile_pickles, provenance
from stretchnas_jax.data.batches import crops
from stretchnas_jax.data.datasets import cifar, images

GOOD = ('read', 'refused')

_SECONDS = 10  # of a processor, for one file
_HANG = 120  # seconds by the clock
_AT_ONCE = 250  # files for one child
_LARGE = 0.005  # part of the files that stand for much more than their size
_SPARE = 2**28  # address space beyond the bound, for libraries and threads

_Draw = Callable[[np.random.Generator, bool], tuple[str, bytes]]
_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(
  ['experiments.reliability.hostile_archives', 'experiments.reliability.hostile_images']
  + ['stretchnas_jax.data.batches.crops', 'stretchnas_jax.data.datasets.cifar']
)


class Trial(NamedTuple):
  """One file that a reader was given."""

  kind: str
  """A member of `KINDS`."""
  attack: str
  outcome: str
  """A member of `GOOD`, or the fault."""
  seconds: float
  """Of a processor."""
  megabytes: float
  """Memory at the peak, beyond the memory before."""


class _Silent(Exception):
  """A reader took other pixels from a damaged archive."""


class _Hang(BaseException):
  """A reader took too long; no Exception, so that no reader catches it."""


# ---- readers -------------------------------------------------------------------------------------


def _a_pickle(place: pathlib.Path, data: bytes) -> None:
  for name, content in hostile_archives.contents(np.random.default_rng(0)).items():
    (place / name).write_bytes(content)
  (place / 'data_batch_3').write_bytes(data)
  cifar.load('cifar10', place)


def _an_archive(place: pathlib.Path, data: bytes) -> None:
  (place / 'x').write_bytes(data)
  cifar.load('cifar10', place / 'x')


def _a_flipped_archive(place: pathlib.Path, data: bytes) -> None:
  """Reads an archive, which must be refused or give the pixels and labels of the undamaged one."""
  (place / 'x').write_bytes(data)
  found = cifar.load('cifar10', place / 'x')
  if found is None or any((found[key] != _undamaged()[key]).any() for key in _undamaged()):
    raise _Silent


@functools.cache
def _undamaged() -> dict[str, np.ndarray]:
  with tempfile.TemporaryDirectory() as place:
    file = pathlib.Path(place) / 'x'
    file.write_bytes(hostile_archives.whole('gzip'))
    return cifar.load('cifar10', file) or {}


def _an_image(place: pathlib.Path, data: bytes) -> None:
  file = place / 'x.png'
  file.write_bytes(data)
  draws = crops.random_numbers(1, seed=len(data), stream='x', epoch=0, step=0)[0]
  if len(data) % 3 == 0:
    images.read(file, 16)
  elif len(data) % 3 == 1:
    crops.read_center(file, 224, name='x.png')
  else:
    options = {'scale': (0.08, 1.0), 'ratio': (0.75, 1.33), 'flip': True}
    crops.read_random(file, draws, 16, name='x.png', **options)


class _Kind(NamedTuple):
  """A kind of files."""

  draw: _Draw
  read: Callable[[pathlib.Path, bytes], None]
  most_memory: Callable[[int], int]
  """The bound for the size of a file, in bytes."""


KINDS = {
  'pickle': _Kind(lambda rng, _: hostile_pickles.draw(rng), _a_pickle, lambda n: 8 * n + 2**25),
  'archive': _Kind(hostile_archives.draw, _an_archive, lambda n: n + 2**28),
  'flipped archive': _Kind(hostile_archives.flip, _a_flipped_archive, lambda n: n + 2**28),
  'image': _Kind(hostile_images.draw, _an_image, lambda n: n + 2**30 + 2**25),
}


# ---- trials --------------------------------------------------------------------------------------


def trial(seed: int) -> Trial:
  """Gives a reader one file.

  Args:
    seed: draws the file.
  """
  rng, name = np.random.default_rng(seed), list(KINDS)[seed % len(KINDS)]
  kind = KINDS[name]
  attack, data = kind.draw(rng, bool(rng.random() < _LARGE * len(KINDS) / 2))
  with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
    warnings.simplefilter('ignore')
    pathlib.Path('/proc/self/clear_refs').write_text('5')  # the peak begins at the present memory
    before, begin = _memory('VmRSS'), time.process_time()
    result = outcome(kind.read, pathlib.Path(place), data)
    seconds, taken = time.process_time() - begin, _memory('VmHWM') - before
  if result in GOOD and taken > kind.most_memory(len(data)):
    result = 'too much memory'
  if result in GOOD and seconds > _SECONDS:
    result = 'too slow'
  return Trial(name, attack, result, round(seconds, 3), round(taken / 2**20, 1))


def outcome(read: Callable[[pathlib.Path, bytes], None], place: pathlib.Path, data: bytes) -> str:
  """Runs a reader for at most some minutes, and returns a member of `GOOD`, or the fault.

  Args:
    read: the reader.
    place: a folder for the file.
    data: its content.
  """

  def stop(*_: object) -> None:
    raise _Hang

  signal.signal(signal.SIGALRM, stop)
  signal.alarm(_HANG)
  try:
    read(place, data)
  except _Hang:
    return 'hang'
  except MemoryError:
    return 'out of memory'
  except (ValueError, OSError) as error:
    is_plain = not isinstance(error, UnicodeError) and len(str(error)) < 1000
    return 'refused' if is_plain else f'not a sentence: {type(error).__name__}'
  except _Silent:
    return 'silent'
  except Exception as error:
    return f'traceback: {type(error).__name__}'
  finally:
    signal.alarm(0)
  return 'read'


def _memory(name: str) -> int:
  """Returns a line of /proc/self/status in bytes, such as VmRSS."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(f'{name}:'):
      return 1024 * int(line.split()[1])
  raise LookupError(name)


# ---- children ------------------------------------------------------------------------------------


def _child(seeds: range, results: str) -> None:
  """Writes a line for each trial; its address space is limited."""
  logging.disable(logging.CRITICAL)
  limit = _memory('VmSize') + max(kind.most_memory(2**24) for kind in KINDS.values()) + _SPARE
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
  with open(results, 'w') as file:
    for seed in seeds:
      file.write(json.dumps(trial(seed)) + '\n')
      file.flush()


def trials(seeds: range) -> Iterator[tuple[int, Trial]]:
  """Yields the trials of some seeds, and goes on behind one that ends its process.

  Args:
    seeds: a seed for each file.
  """
  while seeds:
    with tempfile.TemporaryDirectory() as place:
      results = f'{place}/results'
      process = _CONTEXT.Process(target=_child, args=(seeds[:_AT_ONCE], results))
      process.start()
      process.join()
      lines = pathlib.Path(results).read_text().splitlines()
    for line in lines:
      yield seeds[0], Trial(*json.loads(line))
      seeds = seeds[1:]
    if process.exitcode:
      kind = list(KINDS)[seeds[0] % len(KINDS)]
      yield seeds[0], Trial(kind, 'unknown', f'crash: exit code {process.exitcode}', 0.0, 0.0)
      seeds = seeds[1:]


def summary(found: list[Trial]) -> dict[str, Any]:
  """Returns the figures of some trials.

  Args:
    found: at least one trial.
  """
  outcomes = collections.Counter(one.outcome for one in found)
  return {
    'files': len(found),
    'bad': sum(number for outcome, number in outcomes.items() if outcome not in GOOD),
    'outcomes': dict(outcomes.most_common()),
    'most_seconds': max(one.seconds for one in found),
    'most_megabytes': max(one.megabytes for one in found),
  }


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--count', type=int, default=10_000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  found, begin = [], time.time()
  for seed, one in trials(range(args.seed, args.seed + args.count)):
    found.append(one)
    if one.outcome not in GOOD:
      print(f'seed {seed}: {one}', flush=True)
    if len(found) % 500 == 0:
      print(len(found), summary(found), flush=True)
  by_kind = {name: summary([one for one in found if one.kind == name]) for name in KINDS}
  figures = {'seed': args.seed, **summary(found), 'by_kind': by_kind}
  provenance.save('bounds', {**figures, 'seconds': round(time.time() - begin)})


if __name__ == '__main__':
  main()
