"""Measures the images a second of a stream: `python -m experiments.benchmarks.input_stream`.

Small images in class folders are enlarged to JPEGs with the usual side of 256 pixels. They are
streamed as for a training at 224: read, decoded, cropped, scaled, mirrored and joined to batches.
Nothing is computed with them, so that the workers have the machine for themselves. In each round
the numbers of workers take turns.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, features

from experiments.benchmarks import processes
from stretchnas_jax.data.batches import stream_batches, streaming
from stretchnas_jax.data.datasets import encoded, folder
from stretchnas_jax.machine import facts

_PACKAGES = ('jax', 'numpy', 'pillow')


def _make_images(source: str, target: str, count: int, side: int) -> float:
  """Writes JPEGs into class folders; the images of the source repeat where they are too few.

  Args:
    source: a folder with `train/` and its class folders.
    target: the folder of the new class folders.
    count: the number of JPEGs.
    side: their height and width in pixels.

  Returns:
    Their mean size in bytes.
  """
  found = folder.find(source)
  names, images = found.class_names, found.paths('train')
  classes = [[path for path, label in images if label == i] for i in range(len(names))]
  turns = itertools.cycle(zip(names, map(itertools.cycle, classes)))
  sizes = []
  for i, (name, paths) in zip(range(count), turns):
    path = pathlib.Path(target, name, f'{i}.jpg')
    path.parent.mkdir(exist_ok=True)
    with Image.open(next(paths)) as image:
      image.convert('RGB').resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    sizes.append(path.stat().st_size)
  return statistics.mean(sizes)


def rate(path: str, workers: int, batch_size: int, num_images: int) -> float:
  """Measures a training stream.

  Args:
    path: the folder of the images.
    workers: the number of threads that decode.
    batch_size: images of a batch.
    num_images: the number of images that are streamed, at least one batch.

  Returns:
    Images a second.
  """
  images = encoded.load('folder', path=path).train
  options = stream_batches.Options(workers=workers)
  parts = {'train': np.arange(len(images.labels))}
  feed = streaming.StreamFeed(images, parts, batch_size, options, seed=0)
  with contextlib.closing(feed):
    steps = max(num_images // batch_size, 1)
    # The first batch starts the threads. Afterwards the next batch is under way, as in a training.
    feed.chunk(*divmod(0, feed.steps_per_epoch), 1, 1)
    begin = time.perf_counter()
    for step in range(1, steps + 1):
      feed.chunk(*divmod(step, feed.steps_per_epoch), 1, 1)
    return steps * batch_size / (time.perf_counter() - begin)


def measure(args: argparse.Namespace) -> dict[str, Any]:
  """Returns the figures that the command line asks for, with the facts of the machine."""
  rates = {workers: [] for workers in args.workers}
  with tempfile.TemporaryDirectory() as path:
    size = _make_images(args.images, path, args.count, args.side)
    for _ in range(args.rounds):
      for workers, found in rates.items():
        found.append(rate(path, workers, args.batch_size, args.count))
  rows = [
    {
      'workers': workers,
      'images_per_second': round(statistics.median(found), 1),
      'per_worker': round(statistics.median(found) / workers, 1),
      'rounds': [round(value, 1) for value in found],
    }
    for workers, found in rates.items()
  ]
  return {
    **_facts(),
    'images': f'{args.count} JPEGs of {args.side}x{args.side}, {size:.0f} bytes each on average',
    'batch_size': args.batch_size,
    'rows': rows,
  }


def _facts() -> dict[str, Any]:
  """Returns the machine, the versions and the date."""
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'machine': processes.cpu_model(),
    'cores': facts.num_cores(),
    'versions': {
      'python': platform.python_version(),
      **versions,
      'libjpeg_turbo': features.version('libjpeg_turbo'),
    },
  }


def _table(result: Mapping[str, Any]) -> str:
  """Returns the figures as a Markdown table."""
  lines = ['| workers | images/s | per worker |', '|---|---|---|']
  for row in result['rows']:
    lines.append(f'| {row["workers"]} | {row["images_per_second"]} | {row["per_worker"]} |')
  return '\n'.join(lines)


def _workers(text: str) -> list[int]:
  """Returns the numbers in a text such as `1,2`."""
  return [int(word) for word in text.split(',')]


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--images', required=True, help='folder of class folders of images')
  parser.add_argument('--count', type=int, default=2000, help='how many are made and streamed')
  parser.add_argument('--side', type=int, default=256, help='of the JPEGs, in pixels')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--workers', type=_workers, default=[1, 2])
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--out', help='JSON file that is written')
  args = parser.parse_args()
  try:
    result = measure(args)
  except (ValueError, OSError) as error:
    parser.error(str(error))
  if args.out:
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    pathlib.Path(args.out).write_text(json.dumps(result, indent=2) + '\n', 'utf-8')
  print(json.dumps(result))
  print(_table(result))


if __name__ == '__main__':
  main()
