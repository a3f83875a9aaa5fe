"""Images a second that a stream delivers: `python -m experiments.benchmarks.input_stream`.

Small images in class folders are scaled up to JPEGs of the usual side, 256 pixels, and streamed as
for a training at 224: read, decoded, cropped, scaled, mirrored and put together to batches. Nothing
is computed with them, so the workers have the machine for themselves. In each round the numbers of
workers take turns.
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

import numpy as np
from PIL import Image, features

from stretchnas_jax.data.batches import stream_batches, streaming
from stretchnas_jax.data.datasets import decoding, encoded, folder

PACKAGES = ('jax', 'numpy', 'pillow')


def build(source, target, count, side):
  """Writes `count` JPEGs of `side` x `side` into class folders; returns their mean size."""
  names, files = folder.find_files(pathlib.Path(source))
  classes = [[path for path, label in files['train'] if label == i] for i in range(len(names))]
  turns = itertools.cycle(zip(names, map(itertools.cycle, classes)))
  sizes = []
  for i, (name, paths) in zip(range(count), turns):
    path = pathlib.Path(target, name, f'{i}.jpg')
    path.parent.mkdir(exist_ok=True)
    with Image.open(next(paths)) as image:
      image.convert('RGB').resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    sizes.append(path.stat().st_size)
  return statistics.mean(sizes)


def rate(path, workers, batch_size, num_images):
  """Images a second of a training stream with so many workers."""
  images = encoded.load('folder', path=path).train
  options = stream_batches.Options(workers=workers)
  parts = {'train': np.arange(len(images.labels))}
  feed = streaming.StreamFeed(images, parts, batch_size, options, seed=0)
  with contextlib.closing(feed):
    steps = max(num_images // batch_size, 1)
    ask = lambda step: feed.chunk(*divmod(step, feed.steps_per_epoch), 1, 1)
    ask(0)  # starts the threads; the next batch is under way afterwards, as in the steady state
    begin = time.perf_counter()
    for step in range(1, steps + 1):
      ask(step)
    return steps * batch_size / (time.perf_counter() - begin)


def measure(args):
  """Everything that is to be known about the figures, and the figures."""
  rates = {workers: [] for workers in args.workers}
  with tempfile.TemporaryDirectory() as path:
    size = build(args.images, path, args.count, args.side)
    for _ in range(args.rounds):
      for workers, found in rates.items():
        found.append(rate(path, workers, args.batch_size, args.count))
  rows = [
    {
      'workers': workers,
      'images_per_second': round(statistics.median(found), 1),
      'per_worker': round(statistics.median(found) / workers, 1),
      'rounds': [round(x, 1) for x in found],
    }
    for workers, found in rates.items()
  ]
  return {
    **facts(),
    'images': f'{args.count} JPEGs of {args.side}x{args.side}, {size:.0f} bytes each on average',
    'batch_size': args.batch_size,
    'rows': rows,
  }


def facts():
  """The machine, the versions and the date."""
  cpu = pathlib.Path('/proc/cpuinfo')
  lines = cpu.read_text('utf-8').splitlines() if cpu.exists() else []
  models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'machine': models[0] if models else platform.machine(),
    'cores': decoding.num_cores(),
    'versions': {
      'python': platform.python_version(),
      **versions,
      'libjpeg_turbo': features.version('libjpeg_turbo'),
    },
  }


def table(result):
  """The figures as a table in Markdown."""
  lines = ['| workers | images/s | per worker |', '|---|---|---|']
  for row in result['rows']:
    lines.append(f'| {row["workers"]} | {row["images_per_second"]} | {row["per_worker"]} |')
  return '\n'.join(lines)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--images', required=True, help='folder of class folders of images')
  parser.add_argument('--count', type=int, default=2000, help='how many are made and streamed')
  parser.add_argument('--side', type=int, default=256, help='of the JPEGs, in pixels')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument(
    '--workers', type=lambda text: [int(x) for x in text.split(',')], default=[1, 2]
  )
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
  print(table(result))


if __name__ == '__main__':
  main()
