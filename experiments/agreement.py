"""Whether trainings here and in PyTorch agree: `python -m experiments.agreement --images=FOLDER`.

Two checks. `--exact`: three steps from the same weights on the same images, without augmentation
and drop path, must come to the same numbers in float64, and in float32 be as far from these as
PyTorch's own float32 is; from several starts, since that distance is a matter of chance. Without
it: whole trainings with the recipe of `configs/train_cifar10.py`, augmentation, drop path and
auxiliary head included, on the same few images, but each side with its own chance; their test
accuracies are compared over seeds.

A folder holds the trainings that are done; the same command goes on where it was stopped.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import jax
import numpy as np

from experiments import agreement_tables, exact
from experiments.benchmarks import processes
from stretchnas_jax import config as config_lib
from stretchnas_jax.data.datasets import folder, loading
from stretchnas_jax.runs import find_cell
from stretchnas_jax.sweeps import statistics

SIZES = {'channels': 8, 'layers': 5, 'epochs': 3}
CELL = 'DARTS_V2'
FOUND = 'experiments/results/digits/genotype.json'
OURS, PEER, DIGITS = CELL, f'{CELL}, PyTorch', 'found on digits'
MOST = 1e-5  # by how much logits may differ in float32, and all else in float64
STEPS, BATCH, STARTS = 3, 32, 5

# ---- images --------------------------------------------------------------------------------------


def make_subset(source, target, counts):
  """Copies the first images of each class by name, as many of each; returns the folder.

  Args:
    source: a folder with `train/` and `test/` of class folders.
    target: the folder that is made, if it is not there.
    counts: `{'train': images of all classes, 'test': likewise}`.
  """
  names, files = folder.find_files(source)
  chosen = []
  for part, count in counts.items():
    each = count // len(names)
    for label, name in enumerate(names):
      paths = sorted(path for path, of in files.get(part, ()) if of == label)[:each]
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


def load_arrays(images):
  """What PyTorch learns from, decoded and scaled once: bytes, labels, mean and deviation."""
  data = loading.load('folder', path=str(images), image_size=32)
  return {
    **{name: getattr(data, name) for name in ('train_images', 'train_labels', 'mean', 'std')},
    **{name: getattr(data, name) for name in ('test_images', 'test_labels')},
  }


# ---- three steps ---------------------------------------------------------------------------------


def check_steps(arrays, work):
  """Relative differences of three steps, for each cell and start; see `torch_replay`.

  Returns:
    A dict; `cells` holds for each cell lists over the starts: `float64` of ours from PyTorch,
    `float32` of ours from PyTorch's float64, and `pytorch` of its float32 from its float64.
  """
  chosen = np.random.default_rng(0).choice(len(arrays['train_labels']), (STEPS, BATCH), False)
  pixels = arrays['train_images'][chosen] / 255
  images = ((pixels - arrays['mean']) / arrays['std']).astype(np.float32)
  found = {}
  for name, cell in ((CELL, CELL), (DIGITS, processes.ROOT / FOUND)):
    found[name] = {}
    for dtype in 'float32', 'float64':
      with jax.enable_x64(dtype == 'float64'):
        made = exact.steps(
          exact_config(dtype), find_cell.genotype_from(cell), images,
          arrays['train_labels'][chosen], range(STARTS),
        )  # fmt: skip
      paths = [work / f'steps_{seed}.npz' for seed in range(STARTS)]
      for path, start in zip(paths, made):
        np.savez(path, **start)
      replays = processes.run('experiments.benchmarks.torch_replay', map(str, paths))['replays']
      found[name][dtype] = [again['ours'] for again in replays]
      if dtype == 'float32':
        found[name]['pytorch'] = [again['pytorch'] for again in replays]
  return {'steps': STEPS, 'batch': BATCH, 'starts': STARTS, **SIZES, 'cells': found}


def exact_config(dtype):
  config = config_lib.train_config()
  config.model.channels, config.model.num_layers = SIZES['channels'], SIZES['layers']
  config.model.dtype = dtype
  config.train.drop_path, config.train.epochs = 0.0, STEPS
  return config


def worst(result):
  """The largest difference in float64, and of logits in float32."""
  cells, names = result['cells'].values(), ('logits', 'evaluation_logits')
  single = [start[name] for cell in cells for start in cell['float32'] for name in names]
  return max(*single, *(x for cell in cells for start in cell['float64'] for x in start.values()))


# ---- whole trainings -----------------------------------------------------------------------------


def train_ours(images, work, cell, seeds):
  """Trains here, with the program that users run; returns a dict for each seed."""
  words = [
    '--config=configs/train_cifar10.py', f'--workdir={work}', f'--genotype={cell}',
    f'--seeds={",".join(map(str, seeds))}', '--config.data.name=folder',
    f'--config.data.path={images}', '--config.data.image_size=32',
    f'--config.model.channels={SIZES["channels"]}', f'--config.model.num_layers={SIZES["layers"]}',
    f'--config.train.epochs={SIZES["epochs"]}',
  ]  # fmt: skip
  command = [sys.executable, '-m', 'stretchnas_jax.train', *words]
  if code := subprocess.run(command, cwd=processes.ROOT).returncode:
    raise SystemExit(code)
  found = []
  for seed in seeds:
    run = work / f'seed_{seed}'
    line = json.loads((run / 'metrics.jsonl').read_text('utf-8').splitlines()[-1])
    result = json.loads((run / 'result.json').read_text('utf-8'))
    kept = {name: result[name] for name in ('seed', 'test_accuracy', 'params', 'seconds')}
    found.append({**kept, 'test_loss': line['test_loss']})
  return found


def train_peer(arrays, work, seeds):
  """Trains the same cell in PyTorch, a process for each seed."""
  work.mkdir(parents=True, exist_ok=True)
  data = work / 'data.npz'
  np.savez(data, **arrays)
  found = []
  for seed in seeds:
    path = work / f'seed_{seed}.json'
    if not path.exists():
      words = [f'--data={data}', f'--seed={seed}', f'--genotype={CELL}']
      words += [f'--{name}={value}' for name, value in SIZES.items()]
      result = processes.run('experiments.benchmarks.torch_train', words)
      path.write_text(json.dumps(result), 'utf-8')
      print(f'PyTorch, seed {seed}: {result["test_accuracy"]:.4f}', file=sys.stderr)
    result = json.loads(path.read_text('utf-8'))
    names = 'seed', 'test_accuracy', 'params', 'seconds', 'test_loss'
    found.append({name: result[name] for name in names})
  return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
  """Returns mean and deviation of accuracy and loss, n, and the trainings themselves."""
  found: dict[str, Any] = {'n': len(runs)}
  for name in ('test_accuracy', 'test_loss'):
    values = statistics.summarize(run[name] for run in runs)
    found |= {name: values.mean, f'{name}_std': values.std}
  return {**found, 'runs': runs}


def compare(ours: dict[str, Any], peer: dict[str, Any], name: str) -> dict[str, Any]:
  """Compares two sides by Welch's test.

  Args:
    ours: the `summary` of our trainings.
    peer: the `summary` of the other trainings, which is subtracted.
    name: 'test_accuracy' or 'test_loss'.
  """
  values = [[run[name] for run in side['runs']] for side in (ours, peer)]
  found = statistics.difference_of_means(*values)
  return {**found._asdict(), 'interval': list(found.interval), 'within_noise': found.p > 0.05}


def check_trainings(images, arrays, work, sides, seeds, digits_seeds):
  """All trainings; None where there are not both sides and two seeds to compare."""
  run = {
    'peer': lambda: train_peer(arrays, work / 'peer', seeds),
    'ours': lambda: train_ours(images, work / 'ours', CELL, seeds),
    'digits': lambda: train_ours(images, work / 'digits', processes.ROOT / FOUND, digits_seeds),
  }
  runs = {side: run[side]() for side in sides}
  if not {'ours', 'peer'} <= runs.keys() or len(seeds) < 2:
    return None
  titles, names = {'ours': OURS, 'peer': PEER, 'digits': DIGITS}, ('test_accuracy', 'test_loss')
  found = {title: summary(runs[side]) for side, title in titles.items() if side in runs}
  return {
    **SIZES,
    'train_images': len(arrays['train_labels']),
    'test_images': len(arrays['test_labels']),
    'cells': found,
    'ours_less_peer': {name: compare(found[OURS], found[PEER], name) for name in names},
  }


# ---- the program ---------------------------------------------------------------------------------


def write(out, section, result):
  """Puts one section's result beside those that are there."""
  out.mkdir(parents=True, exist_ok=True)
  path = out / 'agreement.json'
  results = json.loads(path.read_text('utf-8')) if path.exists() else {}
  results[section] = result
  path.write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  (out / 'agreement.md').write_text(agreement_tables.markdown(results), 'utf-8')


def parse(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--images', required=True, help='train/ and test/ of class folders')
  parser.add_argument('--name', help='of the images, as CIFAR-10 (default: of their folder)')
  parser.add_argument('--exact', action='store_true', help='three steps only')
  parser.add_argument('--train-images', type=int, default=5000)
  parser.add_argument('--test-images', type=int, default=2000)
  by_commas = lambda kind: lambda text: [kind(word) for word in text.split(',')]
  parser.add_argument('--seeds', type=by_commas(int), default=[0, 1, 2])
  parser.add_argument(
    '--digits-seeds', type=by_commas(int), help='of the cell found on digits (default: --seeds)'
  )
  parser.add_argument(
    '--sides', type=by_commas(str), default=['peer', 'ours', 'digits'],
    help='which trainings, to run them bit by bit; the table needs ours and peer',
  )  # fmt: skip
  parser.add_argument('--workdir', type=pathlib.Path, default='runs/agreement')
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/agreement')
  return parser, parser.parse_args(argv)


def main(argv=None):
  parser, a = parse(argv)
  if unknown := set(a.sides) - {'peer', 'ours', 'digits'}:
    parser.error(f'--sides has {unknown.pop()!r}; there are peer, ours, digits')
  if a.exact or 'peer' in a.sides:
    processes.require('torch')
  work = a.workdir.absolute() / f'{a.train_images}_{a.test_images}'
  counts = {'train': a.train_images, 'test': a.test_images}
  try:
    images = make_subset(a.images, work / 'images', counts)
  except (ValueError, OSError) as error:
    parser.error(str(error))
  facts = {**processes.facts(), 'images': a.name or pathlib.Path(a.images).absolute().name}
  try:
    check(a, facts, images, work)
  except RuntimeError as error:  # a process of PyTorch that failed
    raise SystemExit(str(error)) from None


def check(a, facts, images, work):
  """Makes the check that is asked for, and writes what it came to."""
  arrays = load_arrays(images)
  if a.exact:
    result = facts | check_steps(arrays, work)
    result['largest'] = worst(result)
    write(a.out, 'exact', result)
    print(json.dumps(result))
    if result['largest'] > MOST:
      raise SystemExit(f'the steps differ by {result["largest"]:.2g}, more than {MOST:g}')
    return
  seeds = a.seeds, a.digits_seeds or a.seeds
  if found := check_trainings(images, arrays, work, a.sides, *seeds):
    write(a.out, 'training', facts | found)
    print(json.dumps(found))


if __name__ == '__main__':
  main()
