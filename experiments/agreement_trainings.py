"""Whole trainings here and in PyTorch, and the comparison of their results."""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks import processes
from stretchnas_jax.runs import statistics

SIZES = {'channels': 8, 'layers': 5, 'epochs': 3}
CELL = 'DARTS_V2'
FOUND = 'experiments/results/agreement/digits_genotype.json'
TITLES = {'ours': CELL, 'peer': f'{CELL}, PyTorch', 'digits': 'found on digits'}


def _train_ours(
  images: pathlib.Path, work: pathlib.Path, cell: str | pathlib.Path, seeds: Sequence[int]
) -> list[dict[str, Any]]:
  """Trains here, with the program that users run; returns the result of each seed."""
  words = [
    '--config=configs/train_cifar10.py', f'--workdir={work}', f'--genotype={cell}',
    f'--seeds={",".join(map(str, seeds))}', '--config.data.name=folder',
    f'--config.data.path={images}', '--config.data.image_size=32',
    f'--config.model.channels={SIZES["channels"]}', f'--config.model.num_layers={SIZES["layers"]}',
    f'--config.train.epochs={SIZES["epochs"]}', '--config.weights.schedule_by=step',
  ]  # fmt: skip
  command = [sys.executable, '-m', 'stretchnas_jax.train', *words]
  code = subprocess.run(command, cwd=processes.ROOT).returncode
  if code:
    raise SystemExit(code)
  found = []
  for seed in seeds:
    run = work / f'seed_{seed}'
    last = json.loads((run / 'metrics.jsonl').read_text('utf-8').splitlines()[-1])
    result = json.loads((run / 'result.json').read_text('utf-8'))
    kept = {name: result[name] for name in ('seed', 'test_accuracy', 'params', 'seconds')}
    found.append({**kept, 'test_loss': last['test_loss']})
  return found


def _train_peer(
  arrays: Mapping[str, np.ndarray], work: pathlib.Path, seeds: Sequence[int]
) -> list[dict[str, Any]]:
  """Trains the same cell in PyTorch, in a process for each seed; returns the results."""
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
    names = ('seed', 'test_accuracy', 'params', 'seconds', 'test_loss')
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


def check_trainings(
  args: argparse.Namespace,
  images: pathlib.Path,
  arrays: Mapping[str, np.ndarray],
  work: pathlib.Path,
) -> dict[str, Any] | None:
  """Trains on all sides that are asked for, and compares them.

  Args:
    args: the command line.
    images: the folder of the images.
    arrays: the same images and labels.
    work: the folder of the trainings.

  Returns:
    None unless there are both sides, and two seeds to compare.
  """
  runs = {}
  for side in args.sides:
    if side == 'peer':
      runs[side] = _train_peer(arrays, work / side, args.seeds)
    elif side == 'ours':
      runs[side] = _train_ours(images, work / side, CELL, args.seeds)
    else:
      seeds = args.digits_seeds or args.seeds
      runs[side] = _train_ours(images, work / side, processes.ROOT / FOUND, seeds)
  if not {'ours', 'peer'} <= runs.keys() or len(args.seeds) < 2:
    return None
  found = {side: summary(runs[side]) for side in TITLES if side in runs}
  names = ('test_accuracy', 'test_loss')
  return {
    **SIZES,
    'train_images': len(arrays['train_labels']),
    'test_images': len(arrays['test_labels']),
    'cells': {TITLES[side]: result for side, result in found.items()},
    'ours_less_peer': {name: compare(found['ours'], found['peer'], name) for name in names},
  }
