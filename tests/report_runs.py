"""Folders of runs for tests of the report: written as a run writes them, without running."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype, topology
from stretchnas_jax.cells.space import CELL_TYPES, darts_space
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.runs import history, json_files

DIGITS = tuple(map(str, range(10)))


def _softmax(values: np.ndarray) -> np.ndarray:
  powers = np.exp(values - values.max(-1, keepdims=True, initial=-1e9))
  return powers / powers.sum(-1, keepdims=True)


def _write(path: pathlib.Path, name: str, values: Any) -> None:
  (path / name).write_text(json_files.dumps(values))


def _common(path: pathlib.Path, kind: str, config: Any, seed: int, classes: Sequence[str]) -> None:
  """Writes config, record and identity."""
  config.seed = seed
  path.mkdir(parents=True, exist_ok=True)
  _write(path, 'config.json', config.to_dict())
  counts = {'images': 100, 'classes': {name: 10 + i for i, name in enumerate(classes)}}
  parts = dict.fromkeys(('train', 'test') if kind == 'train' else ('train',), counts)
  record = {
    'date': '2026-01-02T03:04:05+00:00',
    'argv': [f'stretchnas {kind}', '--config=digits', f'--workdir={path}'],
    'versions': {'python': '3.11.7', 'jax': '0.10.2', 'stretchnas_jax': '0.2.0'},
    'devices': ['cpu: cpu'],
    'data': {'name': 'digits', 'image_shape': [8, 8, 1], 'parts': parts},
  }
  _write(path, 'run.json', {**record, 'starts': [record]})
  _write(path, 'identity.json', {'data': {'train': {'images': 100, 'contents': 'abc123'}}})


def write_search(
  path: pathlib.Path,
  epochs: int = 12,
  done: int | None = None,
  nodes: int = 3,
  kind: str = 'output_subsets',
  seed: int = 0,
  classes: Sequence[str] = DIGITS,
  finished: bool = True,
) -> pathlib.Path:
  """Writes the folder of a search whose scores grow evenly; returns its path."""
  config = config_lib.search_config()
  config.search.epochs, config.space.num_intermediate = epochs, nodes
  config.topology.kind, config.data.name = kind, 'digits'
  _common(path, 'search', config, seed, classes)
  space, draw = darts_space(nodes), np.random.default_rng(seed)
  table = getattr(topology, kind)(space.graph)
  _write(path, 'space.json', history.facts_line(space, table))
  shape = (len(space.graph.edges), space.num_operations)
  way = {c: (draw.normal(size=shape), draw.normal(size=table.mask.shape)) for c in CELL_TYPES}
  scale = np.asarray(table.scale)
  for epoch in range(1, (epochs if done is None else done) + 1):
    far = 3 * epoch / epochs
    noise = lambda size: 0.15 * draw.normal(size=size)
    alpha = {c: (far * way[c][0] + noise(shape)).astype(np.float32) for c in CELL_TYPES}
    beta = {c: (far * way[c][1] + noise(table.mask.shape)).astype(np.float32) for c in CELL_TYPES}
    weights = {c: _softmax(alpha[c]) for c in CELL_TYPES}
    masked = {c: _softmax(np.where(table.mask, beta[c], -1e9)) for c in CELL_TYPES}
    scores = {
      c: scale * np.einsum('rk,rke->e', masked[c], np.asarray(table.codes)) if len(table.mask)
      else scale for c in CELL_TYPES
    }  # fmt: skip
    found, notes = genotype.derive(space, table, weights, beta)
    at = {'step': 10 * epoch, 'epoch': epoch}
    line = history.scores_line(Arch(alpha, beta), table, weights, scores, weights)
    json_files.Lines(path / 'scores.jsonl').append({**at, **line})
    cell = {'genotype': found.to_dict(), 'notes': notes}
    json_files.Lines(path / 'genotypes.jsonl').append({**at, **cell})
    part = epoch / epochs
    metrics = {
      'train_loss': 2.3 - 1.5 * part, 'train_accuracy': 0.1 + 0.8 * part, 'penalty': 0.1 / epoch,
      'val_loss': 2.3 - 1.3 * part, 'val_accuracy': 0.1 + 0.75 * part, 'alpha_entropy': 2 - part,
      'beta_entropy': 3 - part, 'seconds': 12.5, 'images_per_second': 800.0,
    }  # fmt: skip
    more = {} if epoch % 5 else {'cell_accuracy': 0.1 + 0.6 * part}
    json_files.Lines(path / 'metrics.jsonl').append({**at, **metrics, **more})
  if finished:
    _write(path, 'genotype.json', found.to_dict())
    _write(path, 'result.json', {
      'val_accuracy': metrics['val_accuracy'], 'epochs': epochs, 'seconds': 12.5 * epochs,
      'seed': seed, 'supernet_params': 123456, 'penalty': 0.0, 'genotype': found.to_dict(),
    })  # fmt: skip
  return path


def write_training(
  path: pathlib.Path, epochs: int = 6, seed: int = 0, classes: Sequence[str] = DIGITS
) -> pathlib.Path:
  """Writes the folder of a finished training, with its confusion; returns its path."""
  config = config_lib.train_config()
  config.train.epochs, config.data.name = epochs, 'digits'
  _common(path, 'train', config, seed, classes)
  cell = [['sep_conv_3x3', 0, 2], ['skip_connect', 1, 2], ['max_pool_3x3', 2, 3]]
  cell = {'normal': cell, 'normal_concat': [2, 3], 'reduce': cell, 'reduce_concat': [2, 3]}
  _write(path, 'config.json', {**config.to_dict(), 'genotype': cell})
  _write(path, 'genotype.json', cell)
  for epoch in range(1, epochs + 1):
    line = {'train_loss': 2 / epoch, 'train_accuracy': epoch / epochs, 'test_accuracy': None}
    line |= {'step': epoch, 'epoch': epoch, 'seconds': 3.0}
    if epoch == epochs:
      line |= {'test_accuracy': 0.97 + seed / 100, 'test_loss': 0.1}
    json_files.Lines(path / 'metrics.jsonl').append(line)
  _write(path, 'result.json', {
    'test_accuracy': 0.97 + seed / 100, 'epochs': epochs, 'seconds': 18.0, 'params': 34567,
    'seed': seed, 'macs': 1234567, 'flops_ptflops': 2345678, 'channels': 36, 'num_layers': 20,
    'genotype': cell,
  })  # fmt: skip
  counts = (np.eye(len(classes), dtype=int) * 9).tolist()
  counts[0][-1] = 3
  pixel = (
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg'
    'gg=='
  )
  worst = {'png': pixel, 'label': classes[0], 'guess': classes[-1], 'share': 0.93}
  _write(path, 'confusion.json', {
    'step': epochs, 'part': 'test', 'images': 93, 'total': 360, 'classes': list(classes),
    'counts': counts, 'num_classes': len(classes), 'wrong': 3, 'worst': [worst] * 3,
  })  # fmt: skip
  return path


def write_seeds(path: pathlib.Path, make: Any, count: int = 3) -> pathlib.Path:
  """Writes the folder of several seeds; `make` writes the folder of one."""
  for seed in range(count):
    make(path / f'seed_{seed}', seed=seed)
  fields = json.loads((path / 'seed_0' / 'config.json').read_text())
  del fields['seed']
  _write(path, 'config.json', {**fields, 'seeds': list(range(count))})
  (path / 'run.json').write_text((path / 'seed_0' / 'run.json').read_text())
  return path
