"""Three training steps here and in PyTorch, from the same weights on the same images."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import exact
from experiments.agreement_trainings import CELL, FOUND, SIZES, TITLES
from experiments.benchmarks import processes
from stretchnas_jax import config as config_lib
from stretchnas_jax.runs import find_cell

_STEPS, _BATCH, _STARTS = 3, 32, 5


def check_steps(arrays: Mapping[str, np.ndarray], work: pathlib.Path) -> dict[str, Any]:
  """Makes three steps on both sides, for each cell and start.

  Args:
    arrays: the images and labels.
    work: a folder for files.

  Returns:
    A dict; `cells` holds for each cell lists over the starts, with the relative differences of
    `torch_replay`: `float64` of ours from PyTorch's float64, `float32` of ours from it, and
    `pytorch` of PyTorch's float32 from it.
  """
  chance = np.random.default_rng(0)
  chosen = chance.choice(len(arrays['train_labels']), (_STEPS, _BATCH), False)
  pixels = arrays['train_images'][chosen] / 255
  images = ((pixels - arrays['mean']) / arrays['std']).astype(np.float32)
  labels = arrays['train_labels'][chosen]
  found: dict[str, dict[str, Any]] = {}
  for name, cell in ((CELL, CELL), (TITLES['digits'], processes.ROOT / FOUND)):
    found[name] = {}
    for dtype in 'float32', 'float64':
      replays = _replays(cell, dtype, images, labels, work)
      found[name][dtype] = [again['ours'] for again in replays]
      if dtype == 'float32':
        found[name]['pytorch'] = [again['pytorch'] for again in replays]
  return {'steps': _STEPS, 'batch': _BATCH, 'starts': _STARTS, **SIZES, 'cells': found}


def _replays(
  cell: str | pathlib.Path, dtype: str, images: np.ndarray, labels: np.ndarray, work: pathlib.Path
) -> list[dict[str, Any]]:
  """Makes our steps from all starts, and returns the differences that PyTorch finds."""
  with jax.enable_x64(dtype == 'float64'):
    genotype = find_cell.genotype_from(cell)
    made = exact.steps(_exact_config(dtype), genotype, images, labels, range(_STARTS))
  paths = [work / f'steps_{seed}.npz' for seed in range(_STARTS)]
  for path, start in zip(paths, made):
    np.savez(path, **start)
  return processes.run('experiments.benchmarks.torch_replay', map(str, paths))['replays']


def _exact_config(dtype: str) -> ConfigDict:
  """Returns the training config of the steps."""
  config = config_lib.train_config()
  config.model.channels, config.model.num_layers = SIZES['channels'], SIZES['layers']
  config.model.dtype = dtype
  # PyTorch's averages keep a part of their start, and its factor is taken out below.
  config.model.batch_norm = 'plain'
  config.train.drop_path, config.train.epochs = 0.0, _STEPS
  return config


def worst(result: Mapping[str, Any]) -> float:
  """Returns the largest difference in float64, and of logits in float32."""
  differences = []
  for cell in result['cells'].values():
    for start in cell['float64']:
      differences += start.values()
    for start in cell['float32']:
      differences += [start['logits'], start['evaluation_logits']]
  return max(differences)
