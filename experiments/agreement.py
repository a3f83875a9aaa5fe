"""Compares trainings here and in PyTorch: `python -m experiments.agreement --images=FOLDER`.

There are two checks. `--exact` makes three steps from the same weights on the same images, without
augmentation and drop path. In float64 they must come to the same numbers. In float32 they may be as
far from these as PyTorch's own float32 is; since that distance is a matter of chance, there are
several starts. Without `--exact`, whole trainings follow the recipe of `configs/train_cifar10.py`
with augmentation, drop path and auxiliary head. They use the same few images, but each side has its
own chance. Their test accuracies are compared over seeds.

A folder holds the trainings that are done; the same command goes on where it was stopped.
"""

import argparse
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from experiments import agreement_tables
from experiments.agreement_steps import check_steps, worst
from experiments.agreement_trainings import check_trainings
from experiments.benchmarks import processes
from stretchnas_jax.data.datasets import folder, loading

_SIDES = ('peer', 'ours', 'digits')
_MOST = 1e-5  # the largest allowed difference: of logits in float32, and of all else in float64

_Word = TypeVar('_Word')

# ---- images --------------------------------------------------------------------------------------


def make_subset(
  source: str | pathlib.Path, target: pathlib.Path, counts: Mapping[str, int]
) -> pathlib.Path:
  """Copies the first images of each class by name, as many of each class.

  Args:
    source: a folder with `train/` and `test/` of class folders.
    target: the folder that is made, unless it is there.
    counts: the number of images of all classes, for `train` and `test`.

  Returns:
    `target`.

  Raises:
    ValueError: a class has too few images.
  """
  found = folder.find(source)
  names = found.class_names
  chosen = []
  for part, count in counts.items():
    each = count // len(names)
    for label, name in enumerate(names):
      paths = sorted(path for path, of in found.paths(part) if of == label)[:each]
      if not each or len(paths) < each:
        raise ValueError(f'{source} has {len(paths)} {part} images of {name!r}; {each or 1} needed')
      chosen += [(path, pathlib.Path(part, name)) for path in paths]
  if not target.exists():
    unfinished = target.with_name(f'{target.name}.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    for path, place in chosen:
      (unfinished / place).mkdir(parents=True, exist_ok=True)
      shutil.copy(path, unfinished / place)
    unfinished.rename(target)
  return target


def _load_arrays(images: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns PyTorch's data, decoded and scaled once: images, labels, mean and deviation."""
  data = loading.load('folder', path=str(images), image_size=32)
  names = ('train_images', 'train_labels', 'mean', 'std', 'test_images', 'test_labels')
  return {name: getattr(data, name) for name in names}


# ---- the program ---------------------------------------------------------------------------------


def _write(out: pathlib.Path, section: str, result: Mapping[str, Any]) -> None:
  """Writes the result of one section beside the others."""
  out.mkdir(parents=True, exist_ok=True)
  path = out / 'agreement.json'
  results = json.loads(path.read_text('utf-8')) if path.exists() else {}
  results[section] = result
  path.write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  (out / 'agreement.md').write_text(agreement_tables.markdown(results), 'utf-8')


def _by_commas(kind: Callable[[str], _Word]) -> Callable[[str], list[_Word]]:
  """Returns a function that reads words of a kind with commas between."""
  return lambda text: [kind(word) for word in text.split(',')]


def _parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--images', required=True, help='train/ and test/ of class folders')
  parser.add_argument('--name', help='of the images, such as CIFAR-10 (default: of their folder)')
  parser.add_argument('--exact', action='store_true', help='three steps only')
  parser.add_argument('--train-images', type=int, default=5000)
  parser.add_argument('--test-images', type=int, default=2000)
  parser.add_argument('--seeds', type=_by_commas(int), default=[0, 1, 2])
  parser.add_argument(
    '--digits-seeds', type=_by_commas(int), help='of the cell found on digits (default: --seeds)'
  )
  parser.add_argument(
    '--sides', type=_by_commas(str), default=list(_SIDES),
    help='which trainings, to run them bit by bit; the table needs ours and peer',
  )  # fmt: skip
  parser.add_argument('--workdir', type=pathlib.Path, default='runs/agreement')
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/agreement')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  parser = _parser()
  args = parser.parse_args(argv)
  unknown = set(args.sides) - set(_SIDES)
  if unknown:
    parser.error(f'--sides has {unknown.pop()!r}; there are peer, ours, digits')
  if args.exact or 'peer' in args.sides:
    processes.require('torch')
  work = args.workdir.absolute() / f'{args.train_images}_{args.test_images}'
  counts = {'train': args.train_images, 'test': args.test_images}
  try:
    images = make_subset(args.images, work / 'images', counts)
  except (ValueError, OSError) as error:
    parser.error(str(error))
  facts = {**processes.facts(), 'images': args.name or pathlib.Path(args.images).absolute().name}
  try:
    _check(args, facts, images, work)
  except RuntimeError as error:  # a process of PyTorch failed
    raise SystemExit(str(error)) from None


def _check(
  args: argparse.Namespace, facts: Mapping[str, Any], images: pathlib.Path, work: pathlib.Path
) -> None:
  """Makes the check that is asked for, and writes its result.

  Args:
    args: the command line.
    facts: the machine and the versions.
    images: the folder of the images.
    work: the folder of all else.
  """
  arrays = _load_arrays(images)
  if not args.exact:
    found = check_trainings(args, images, arrays, work)
    if found:
      _write(args.out, 'training', {**facts, **found})
      print(json.dumps(found))
    return
  result = {**facts, **check_steps(arrays, work)}
  result['largest'] = worst(result)
  _write(args.out, 'exact', result)
  print(json.dumps(result))
  if result['largest'] > _MOST:
    raise SystemExit(f'the steps differ by {result["largest"]:.2g}, more than {_MOST:g}')


if __name__ == '__main__':
  main()
