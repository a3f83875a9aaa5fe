"""Feeds readers with what should not be there: `python -m experiments.reliability.hostile`.

Inputs are those of a kept corpus (`corpus.py`), damaged at random. A reader may succeed, or say
what is wrong by a ValueError or an OSError, which programs show in one sentence; anything else is
counted as a traceback, more than five seconds as a hang.
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

import numpy as np

from experiments.reliability import corpus
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype
from stretchnas_jax.data.datasets import cifar, dataset, folder, images
from stretchnas_jax.machine import files
from stretchnas_jax.runs import build, find_cell, json_files
from stretchnas_jax.views import cells

RESULTS = pathlib.Path(__file__).parents[1] / 'results' / 'reliability'
SECONDS = 5


class Hang(BaseException):
  """A reader took too long; no Exception, so that no reader takes it for its own."""


def damaged(data, rng):
  """Bytes with some of them changed, cut, doubled or inserted."""
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


# ---- readers: (place for files, random numbers) --------------------------------------------------


def a_genotype(place, rng):
  (place / 'cell').write_bytes(damaged(corpus.some(corpus.TEXTS, rng), rng))
  found = find_cell.genotype_from(place / 'cell')
  assert genotype.from_json(genotype.to_json(found)) == found
  ElementTree.fromstring(cells.svg(found))


def a_history(place, rng):
  """A cell out of the lines that a search has written."""
  line = b'{"epoch": 3, "genotype": %s}\n' % corpus.some(corpus.TEXTS, rng).replace(b'\n', b' ')
  (place / 'genotypes.jsonl').write_bytes(damaged(line, rng))
  find_cell.genotype_from(f'{place}@3')


def an_image(place, rng):
  name, data = corpus.some(corpus.images(), rng)
  (place / name).write_bytes(damaged(data, rng))
  assert images.read(place / name, 16).shape == (16, 16, 3)


def a_folder(place, rng):
  corpus.write_folder(place / 'data', rng)
  size = 8
  data = folder.load(place / 'data', image_size=size, cache=place / 'cache', on_bad_image='skip')
  assert data['train_images'].shape[1:3] == (size, size)


def a_cifar_folder(place, rng):
  for name, data in corpus.cifar_files(rng).items():
    (place / name).write_bytes(damaged(data, rng) if rng.random() < 0.3 else data)
  cifar.load('cifar10', place)


def labels(place, rng):
  values = rng.integers(-2, 4, 5) * rng.choice([1, 1, 10**12])
  pictures = np.zeros((int(rng.integers(0, 7)), 4, 4, int(rng.integers(1, 5))), np.uint8)
  arrays = {'train_images': pictures, 'train_labels': values}
  dataset.make_dataset('hostile', arrays, ('a', 'b', 'c'))


def markup(place, rng):
  """Text that would be markup in an SVG: a title, and names of operations."""
  text = damaged(corpus.some(corpus.MARKUP, rng), rng).decode('utf-8', 'replace')
  edges = ((text or 'x', 0, 2),)
  drawn = cells.svg(genotype.Genotype(edges, (2,), edges, (2,)), title=text)
  drawn.encode('utf-8')
  known = {'svg', 'rect', 'path', 'polygon', 'text', 'tspan'}
  tags = {element.tag.split('}')[-1] for element in ElementTree.fromstring(drawn).iter()}
  assert tags <= known, tags - known


def a_config(place, rng):
  """A field of a config, and a config.json, with another value."""
  config = (config_lib.search_config, config_lib.train_config)[rng.integers(2)]()
  values = json.loads(json_files.dumps(config.to_dict()))
  group = (
    values[name] if isinstance(values[name := str(rng.choice(list(values)))], dict) else values
  )
  group[str(rng.choice(list(group)))] = corpus.some(corpus.VALUES, rng)
  text = damaged(json.dumps(values).encode(), rng) if rng.random() < 0.3 else json.dumps(values)
  (place / 'config.json').write_bytes(text if isinstance(text, bytes) else text.encode())
  config_lib.updated(config, json_files.read_object(place / 'config.json'), build.CHOICES)


READERS = (
  a_genotype, a_history, an_image, a_folder, a_cifar_folder, labels, markup, a_config,
)  # fmt: skip


# ---- trials --------------------------------------------------------------------------------------


def trial(seed):
  """(name of the reader, outcome, seconds) of one input, drawn by `seed`.

  Outcomes: 'read', 'refused'; 'traceback' with where it came from, and 'hang', should not be.
  """
  rng, reader = np.random.default_rng(seed), READERS[seed % len(READERS)]

  def stop(*_):
    raise Hang

  with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
    warnings.simplefilter('ignore')
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    begin = time.perf_counter()
    try:
      reader(pathlib.Path(place), rng)
      outcome = 'read'
    except Hang:
      outcome = 'hang'
    except (ValueError, OSError) as error:
      # An encoding is no sentence for a person.
      plain = not isinstance(error, UnicodeError) and len(str(error)) < 1000
      outcome = 'refused' if plain else f'traceback: {type(error).__name__}'
    except Exception as error:
      last = traceback.extract_tb(error.__traceback__)[-1]
      outcome = f'traceback: {type(error).__name__} in {last.name}'
    finally:
      signal.setitimer(signal.ITIMER_REAL, 0)
      signal.signal(signal.SIGALRM, before)
    return reader.__name__, outcome, time.perf_counter() - begin


GOOD = ('read', 'refused')


def peak_memory_mb():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--number', type=int, default=10_000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  logging.disable(logging.CRITICAL)
  corpus.images()
  at_start, longest = peak_memory_mb(), 0.0
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
    'peak_memory_mb': round(peak_memory_mb()),
    'by_reader': {name: dict(outcomes) for name, outcomes in counts.items()},
  }
  RESULTS.mkdir(parents=True, exist_ok=True)
  files.replace(RESULTS / 'hostile.json', (json.dumps(found, indent=2) + '\n').encode())
  print(json.dumps(found))


if __name__ == '__main__':
  main()
