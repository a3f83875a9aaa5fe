"""Feeds hostile input to readers: `python -m experiments.reliability.hostile`.

The inputs are those of a kept corpus (`corpus.py`), damaged at random. A reader may succeed, or
raise a ValueError or an OSError, which programs show in one sentence. Any other error counts as a
traceback, and more than five seconds as a hang.
"""

import argparse
import collections
import json
import logging
import pathlib
import resource
import signal
import tempfile
import time
import traceback
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import numpy as np

from experiments.reliability import corpus, provenance
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype
from stretchnas_jax.data.datasets import cifar, dataset, folder, images
from stretchnas_jax.runs import build, find_cell, json_files
from stretchnas_jax.views import cells

GOOD = ('read', 'refused')

_SECONDS = 5  # more than these are a hang


class _Hang(BaseException):
  """A reader took too long; no Exception, so that no reader catches it."""


def _damaged(data: bytes, rng: np.random.Generator) -> bytes:
  """Returns bytes with some of them changed, cut, doubled or inserted."""
  data = bytearray(data)
  for _ in range(rng.integers(0, 4)):
    at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 20))
    how = rng.integers(5)
    if how == 0:
      data[at : at + length] = b''
    elif how == 1:
      data[at:at] = data[at : at + length] * int(rng.integers(1, 30))
    elif how == 2:
      data[at:at] = corpus.PIECES[rng.integers(len(corpus.PIECES))]
    elif how == 3:
      data[at : at + 1] = rng.bytes(1)
    else:
      del data[at:]
  return bytes(data)


# ---- readers -------------------------------------------------------------------------------------

# Takes a folder for files, and random numbers.
_Reader = Callable[[pathlib.Path, np.random.Generator], None]


def _a_genotype(place: pathlib.Path, rng: np.random.Generator) -> None:
  (place / 'cell').write_bytes(_damaged(corpus.some(corpus.TEXTS, rng), rng))
  found = find_cell.genotype_from(place / 'cell')
  assert genotype.from_json(genotype.to_json(found)) == found
  ElementTree.fromstring(cells.svg(found))


def _a_history(place: pathlib.Path, rng: np.random.Generator) -> None:
  """Reads a cell from the lines that a search writes."""
  line = b'{"epoch": 3, "genotype": %s}\n' % corpus.some(corpus.TEXTS, rng).replace(b'\n', b' ')
  (place / 'genotypes.jsonl').write_bytes(_damaged(line, rng))
  find_cell.genotype_from(f'{place}@3')


def _an_image(place: pathlib.Path, rng: np.random.Generator) -> None:
  name, data = corpus.some(corpus.images(), rng)
  (place / name).write_bytes(_damaged(data, rng))
  assert images.read(place / name, 16).shape == (16, 16, 3)


def _a_folder(place: pathlib.Path, rng: np.random.Generator) -> None:
  corpus.write_folder(place / 'data', rng)
  size = 8
  data = folder.load(place / 'data', image_size=size, cache=place / 'cache', on_bad_image='skip')
  assert data.train_images.shape[1:3] == (size, size)


def _a_cifar_folder(place: pathlib.Path, rng: np.random.Generator) -> None:
  for name, data in corpus.cifar_files(rng).items():
    (place / name).write_bytes(_damaged(data, rng) if rng.random() < 0.3 else data)
  cifar.load('cifar10', place)


def _labels(place: pathlib.Path, rng: np.random.Generator) -> None:
  values = rng.integers(-2, 4, 5) * rng.choice([1, 1, 10**12])
  pictures = np.zeros((int(rng.integers(0, 7)), 4, 4, int(rng.integers(1, 5))), np.uint8)
  arrays = {'train_images': pictures, 'train_labels': values}
  dataset.make_dataset('hostile', arrays, ('a', 'b', 'c'))


def _markup(place: pathlib.Path, rng: np.random.Generator) -> None:
  """Draws text that looks like markup: a title, and names of operations."""
  text = _damaged(corpus.some(corpus.MARKUP, rng), rng).decode('utf-8', 'replace')
  edges = ((text or 'x', 0, 2),)
  drawn = cells.svg(genotype.Genotype(edges, (2,), edges, (2,)), title=text)
  drawn.encode('utf-8')
  known = {'svg', 'rect', 'path', 'polygon', 'text', 'tspan'}
  tags = {element.tag.split('}')[-1] for element in ElementTree.fromstring(drawn).iter()}
  assert tags <= known, tags - known


def _a_config(place: pathlib.Path, rng: np.random.Generator) -> None:
  """Reads a config.json and a config with another value in a field."""
  config = (config_lib.search_config, config_lib.train_config)[rng.integers(2)]()
  values = json.loads(json_files.dumps(config.to_dict()))
  name = str(rng.choice(list(values)))
  group = values[name] if isinstance(values[name], dict) else values
  group[str(rng.choice(list(group)))] = corpus.some(corpus.VALUES, rng)
  text = json.dumps(values).encode()
  if rng.random() < 0.3:
    text = _damaged(text, rng)
  (place / 'config.json').write_bytes(text)
  config_lib.updated(config, json_files.read_object(place / 'config.json'), build.CHOICES)


READERS: tuple[_Reader, ...] = (
  _a_genotype, _a_history, _an_image, _a_folder, _a_cifar_folder, _labels, _markup, _a_config,
)  # fmt: skip


# ---- trials --------------------------------------------------------------------------------------


def trial(seed: int) -> tuple[str, str, float]:
  """Gives a reader one input.

  Args:
    seed: draws the reader and the input.

  Returns:
    The name of the reader, the outcome and the seconds. The outcome is a member of `GOOD`, 'hang',
    or 'traceback: ...' with its origin.
  """
  rng, reader = np.random.default_rng(seed), READERS[seed % len(READERS)]
  with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
    warnings.simplefilter('ignore')
    begin = time.perf_counter()
    outcome = _outcome(reader, pathlib.Path(place), rng)
    return reader.__name__.removeprefix('_'), outcome, time.perf_counter() - begin


def _outcome(reader: _Reader, place: pathlib.Path, rng: np.random.Generator) -> str:
  """Runs a reader for at most some seconds, and returns the outcome."""

  def stop(*_: object) -> None:
    raise _Hang

  before = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, _SECONDS)
  try:
    reader(place, rng)
  except _Hang:
    return 'hang'
  except (ValueError, OSError) as error:
    # A person cannot use the message of an encoding error.
    is_plain = not isinstance(error, UnicodeError) and len(str(error)) < 1000
    return 'refused' if is_plain else f'traceback: {type(error).__name__}'
  except Exception as error:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f'traceback: {type(error).__name__} in {last.name}'
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
  return 'read'


def _peak_memory_mb() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--number', type=int, default=10_000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  logging.disable(logging.CRITICAL)
  corpus.images()
  at_start, longest = _peak_memory_mb(), 0.0
  counts = collections.defaultdict(collections.Counter)
  for seed in range(args.seed, args.seed + args.number):
    name, outcome, seconds = trial(seed)
    counts[name][outcome] += 1
    longest = max(longest, seconds)
    if outcome not in GOOD:
      print(f'seed {seed}: {name}: {outcome}', flush=True)
  totals = sum(counts.values(), collections.Counter())
  found = {
    'inputs': args.number,
    'read': totals['read'],
    'refused': totals['refused'],
    'tracebacks': sum(n for name, n in totals.items() if name.startswith('traceback')),
    'hangs': totals['hang'],
    'longest_seconds': round(longest, 2),
    'memory_at_start_mb': round(at_start),
    'peak_memory_mb': round(_peak_memory_mb()),
    'by_reader': {name: dict(outcomes) for name, outcomes in counts.items()},
  }
  provenance.save('hostile', found)
  print(json.dumps(found))


if __name__ == '__main__':
  main()
