"""Changes the data of a run in many ways: `python -m experiments.reliability.changed_data`.

Each trial makes a small data set, takes its fingerprint and its batches, and changes it at random.
Then the data set is loaded again. There are four good ends: it is refused; its fingerprint differs,
so that a run that resumes names the change; or nothing that a run uses has changed. A batch that
differs under an equal fingerprint is a silent change, and so is a damaged archive that loads other
images without an error. Old images from a cache are silent as well.
"""

import argparse
import collections
import io
import json
import logging
import os
import pathlib
import pickle
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from experiments.reliability import provenance
from stretchnas_jax import config as config_lib
from stretchnas_jax.data.batches import opening
from stretchnas_jax.data.datasets import cifar
from stretchnas_jax.runs import identity

GOOD = ('refused', 'named', 'unchanged')

_CLASSES = ('ant', 'bee', 'cat')
_FILES = 6  # of a class and a part


# ---- data sets -----------------------------------------------------------------------------------


def make_folder(place: pathlib.Path, rng: np.random.Generator) -> None:
  """Writes class folders of small images with a part for training and one for tests.

  Args:
    place: the folder.
    rng: random numbers.
  """
  for part in 'train', 'test':
    for name in _CLASSES:
      (place / part / name).mkdir(parents=True)
      for k in range(_FILES):
        pixels = rng.integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(place / part / name / f'{k}.png', compress_level=0)


def make_archive(path: pathlib.Path, rng: np.random.Generator) -> None:
  """Writes a small archive in the layout of CIFAR-10's Python version.

  Args:
    path: of the archive.
    rng: random numbers.
  """
  layout = cifar.FILES['cifar10']
  with tarfile.open(path, 'w:gz') as archive:
    for name in (*layout.train, *layout.test):
      rows = rng.integers(0, 256, (3, 3072), np.uint8)
      content = {b'data': rows, b'labels': rng.integers(0, 10, 3).tolist()}
      blob = pickle.dumps(content, protocol=2)
      member = tarfile.TarInfo(f'cifar-10-batches-py/{name}')
      member.size = len(blob)
      archive.addfile(member, io.BytesIO(blob))


# ---- changes -------------------------------------------------------------------------------------

_Change = Callable[[pathlib.Path, np.random.Generator], None]


def _a_file(place: pathlib.Path, rng: np.random.Generator) -> pathlib.Path:
  found = sorted(path for path in place.rglob('*') if path.is_file())
  return found[rng.integers(len(found))]


def _keep_times(path: pathlib.Path, data: bytes) -> None:
  """Writes other content under the old time, as copies by some programs do."""
  before = os.stat(path)
  path.write_bytes(data)
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(place: pathlib.Path, rng: np.random.Generator) -> None:
  path = _a_file(place, rng)
  image = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
  file = io.BytesIO()
  image.save(file, 'PNG', compress_level=0)
  _keep_times(path, file.getvalue())


def _exchange(place: pathlib.Path, rng: np.random.Generator) -> None:
  one, other = _a_file(place, rng), _a_file(place, rng)
  data = one.read_bytes(), other.read_bytes()
  _keep_times(one, data[1])
  _keep_times(other, data[0])


def _correct_label(place: pathlib.Path, rng: np.random.Generator) -> None:
  path = _a_file(place, rng)
  target = path.parents[1] / _CLASSES[rng.integers(3)] / f'{rng.integers(20)}x.png'
  path.rename(target)


def _rename(place: pathlib.Path, rng: np.random.Generator) -> None:
  path = _a_file(place, rng)
  path.rename(path.with_name(f'{rng.integers(20)}y.PNG'))


def _remove(place: pathlib.Path, rng: np.random.Generator) -> None:
  for _ in range(rng.integers(1, 4)):
    _a_file(place, rng).unlink()


def _add(place: pathlib.Path, rng: np.random.Generator) -> None:
  path = _a_file(place, rng)
  endings = ('.png', '.txt', '.heic', '', '.jpg')
  shutil.copy(_a_file(place, rng), path.with_name(f'{rng.integers(20)}z{rng.choice(endings)}'))


def _exchange_classes(place: pathlib.Path, rng: np.random.Generator) -> None:
  part = place / ('train', 'test')[rng.integers(2)]
  one, other = (part / name for name in rng.choice(_CLASSES, 2, replace=False))
  one.rename(place / 'aside')
  other.rename(one)
  (place / 'aside').rename(other)


def _rename_class(place: pathlib.Path, rng: np.random.Generator) -> None:
  name, new = rng.choice(_CLASSES), str(rng.choice(['aaa', 'bef', 'zoo', 'CAT']))
  for part in 'train', 'test':
    (place / part / name).rename(place / part / new)


def _exchange_parts(place: pathlib.Path, rng: np.random.Generator) -> None:
  (place / 'train').rename(place / 'aside')
  (place / 'test').rename(place / 'train')
  (place / 'aside').rename(place / ('test', 'val', 'Test')[rng.integers(3)])


def _flip_bits(place: pathlib.Path, rng: np.random.Generator) -> None:
  path = _a_file(place, rng)
  data = bytearray(path.read_bytes())
  for _ in range(rng.integers(1, 4)):
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
  _keep_times(path, bytes(data))


def _cut(place: pathlib.Path, rng: np.random.Generator) -> None:
  path = _a_file(place, rng)
  data = path.read_bytes()
  _keep_times(path, data[: rng.integers(len(data))])


def _touch(place: pathlib.Path, rng: np.random.Generator) -> None:
  os.utime(_a_file(place, rng), (1, 1))


def _move_all(place: pathlib.Path, rng: np.random.Generator) -> None:
  """Copies everything, without times; the caller finds it under the old name."""
  shutil.copytree(place, place.with_name('copy'), copy_function=shutil.copyfile)
  shutil.rmtree(place)
  place.with_name('copy').rename(place)


def _save_again(place: pathlib.Path, rng: np.random.Generator) -> None:
  """Compresses an image in another way; its pixels stay."""
  path = _a_file(place, rng)
  Image.open(path).save(path, 'PNG', compress_level=9)


def _link(place: pathlib.Path, rng: np.random.Generator) -> None:
  one, other = _a_file(place, rng), _a_file(place, rng)
  if one != other:
    one.unlink()
    one.symlink_to(other)


_OF_FOLDERS: tuple[_Change, ...] = (
  _replace, _exchange, _correct_label, _rename, _remove, _add, _exchange_classes, _rename_class,
  _exchange_parts, _flip_bits, _cut, _touch, _move_all, _save_again, _link,
)  # fmt: skip
_OF_ARCHIVES: tuple[_Change, ...] = (_flip_bits, _cut)


# ---- trials --------------------------------------------------------------------------------------


def _config(name: str, path: pathlib.Path, stream: bool) -> config_lib.ConfigDict:
  config = config_lib.search_config()
  config.data.name, config.data.path, config.data.stream = name, str(path), stream
  config.data.image_size, config.search.batch_size = 8, 2
  return config


def _load(config: config_lib.ConfigDict) -> tuple[Any, list[np.ndarray]]:
  """Returns the fingerprint of a data set, and the images and labels of one epoch of a search."""
  feeds = opening.open_search(config)
  try:
    train, found = feeds.train, []
    chunk = train.chunk(0, 0, train.steps_per_epoch, train.steps_per_epoch)
    for batch in chunk.values():
      if isinstance(batch, np.ndarray):  # numbers of images that are in memory
        found += [np.asarray(train.data.images)[batch], np.asarray(train.data.labels)[batch]]
      else:
        found += [np.asarray(leaf) for leaf in batch]
    return json.loads(json.dumps(feeds.fingerprint)), found
  finally:
    feeds.close()


def trial(seed: int) -> tuple[str, str, str]:
  """Makes a data set and changes it; returns its kind, the change and the outcome.

  Args:
    seed: of everything.
  """
  rng = np.random.default_rng(seed)
  kind = ('folder', 'stream', 'archive')[rng.integers(3)]
  with tempfile.TemporaryDirectory() as scratch:
    os.environ['XDG_CACHE_HOME'] = f'{scratch}/cache'
    place = pathlib.Path(scratch) / 'data'
    place.mkdir()
    changes, path, name = _OF_FOLDERS, place, 'folder'
    if kind == 'archive':
      changes, path, name = _OF_ARCHIVES, place / 'cifar-10-python.tar.gz', 'cifar10'
      make_archive(path, rng)
    else:
      make_folder(place, rng)
    config = _config(name, path, stream=kind == 'stream')
    before, batches = _load(config)
    change = changes[rng.integers(len(changes))]
    change(place, rng)
    return kind, change.__name__.removeprefix('_'), _outcome(config, kind, before, batches)


def _outcome(
  config: config_lib.ConfigDict, kind: str, before: Any, batches: list[np.ndarray]
) -> str:
  try:
    now, found = _load(config)
    os.environ['XDG_CACHE_HOME'] += '-new'
    _, again = _load(config)
  except (ValueError, OSError):
    return 'refused'
  if not (len(found) == len(again) and all(map(np.array_equal, found, again))):
    return 'SILENT: an old cache'
  same = len(found) == len(batches) and all(map(np.array_equal, found, batches))
  if kind == 'archive' and not same:
    return 'SILENT: a damaged archive loads'
  if list(identity.data_differences(before, now)):
    return 'named'
  return 'unchanged' if same else 'SILENT: another batch'


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--number', type=int, default=1000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  logging.disable(logging.CRITICAL)
  counts = collections.defaultdict(collections.Counter)
  for seed in range(args.seed, args.seed + args.number):
    kind, change, outcome = trial(seed)
    counts[f'{kind}: {change}'][outcome] += 1
    if outcome not in GOOD:
      print(f'seed {seed}: {kind}: {change}: {outcome}', flush=True)
  totals = sum(counts.values(), collections.Counter())
  silent = sum(n for outcome, n in totals.items() if outcome not in GOOD)
  found = {
    'changes': args.number,
    'seed': args.seed,
    **{outcome: totals[outcome] for outcome in GOOD},
    'silent': silent,
    'by_change': {name: dict(outcomes) for name, outcomes in sorted(counts.items())},
  }
  provenance.save('changed_data', found)
  print(json.dumps(found))


if __name__ == '__main__':
  main()
