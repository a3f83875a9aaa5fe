"""Folders of searches and trainings, written without running them."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
from helpers import tiny_search

from stretchnas_jax.cells import genotype, relaxation, topology
from stretchnas_jax.cells.space import SearchSpace, darts_space
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.runs import history, json_files
from stretchnas_jax.runs.looked_up import looked_up

TABLES = {
  'none': topology.none,
  'input_pairs': topology.input_pairs,
  'output_pairs': topology.output_pairs,
  'output_subsets': topology.output_subsets,
}


def write_search(
  path: pathlib.Path,
  kind: str = 'output_subsets',
  epochs: int = 3,
  nodes: int = 3,
  seed: int = 0,
  finished: bool = True,
  classes: tuple[str, ...] = ('a', 'b'),
  space: SearchSpace | None = None,
  **fields: Any,
) -> list[dict[str, np.ndarray]]:
  """Writes a search with random scores that grow from epoch to epoch; returns alpha of each."""
  space = space or darts_space(nodes, with_none=fields.pop('with_none', False))
  types = space.cell_types
  table = TABLES[kind](space.graph)
  path.mkdir(parents=True)
  changed = {'space.num_intermediate': nodes, 'topology.kind': kind, 'search.epochs': epochs}
  config = tiny_search(seed=seed, **changed, **fields).to_dict()
  words = ['stretchnas search', '--config=digits']
  about = {'data': {'classes': list(classes), 'train': {'shape': [8, 8, 1], 'images': 9}}}
  write_json = lambda name, value: (path / name).write_text(json_files.dumps(value))
  write_json('config.json', config)
  write_json('run.json', {'argv': words, 'starts': [{'argv': words}]})
  write_json('identity.json', about)
  write_json('space.json', history.facts_line(space, table))
  keys = iter(jax.random.split(jax.random.key(seed), 4))
  shape = (len(space.graph.edges), space.num_operations)
  alpha = {c: np.asarray(jax.random.normal(next(keys), shape)) for c in types}
  beta = {c: np.asarray(jax.random.normal(next(keys), table.mask.shape)) for c in types}
  alphas, cell = [], None
  for epoch in range(1, epochs + 1):
    at, share = {'step': 10 * epoch, 'epoch': epoch}, np.float32(epoch / epochs)
    arch = Arch({c: a * share for c, a in alpha.items()}, {c: b * share for c, b in beta.items()})
    alphas.append(arch.alpha)
    strength = {
      c: relaxation.restricted(relaxation.softmax(), space.allowed_on(c)).strength(a, {})
      for c, a in arch.alpha.items()
    }
    scores = {c: np.asarray(topology.edge_scores(arch.beta[c], table)) for c in types}
    line = history.scores_line(arch, table, strength, scores, strength)
    found = genotype.derive(space, table, strength, arch.beta)[0]
    cell = found.to_dict()
    accuracy = 0.5 + 0.1 * epoch / epochs + 0.01 * seed
    for name, values in {
      'scores.jsonl': line,
      'genotypes.jsonl': {'genotype': cell, 'notes': [], **looked_up(found)},
      'metrics.jsonl': {'val_accuracy': accuracy, 'val_loss': 1 / epoch, 'penalty': 0.0},
    }.items():
      json_files.Lines(path / name).append(at | values)
  if finished:
    result = {'val_accuracy': accuracy, 'epochs': epochs, 'seed': seed, 'supernet_params': 9}
    write_json('result.json', {**result, 'seconds': 1.0, 'penalty': 0.0, 'genotype': cell})
    write_json('genotype.json', cell)
  return alphas


def write_training(path: pathlib.Path, cell: dict, seed: int = 0, accuracy: float = 0.9) -> None:
  """Writes a finished training of a cell."""
  path.mkdir(parents=True)
  config = {'seed': seed, 'data': {'name': 'digits'}, 'train': {'epochs': 1}, 'genotype': cell}
  (path / 'config.json').write_text(json.dumps(config))
  (path / 'run.json').write_text('{}')
  line = {'step': 1, 'epoch': 1, 'train_loss': 1.0}
  (path / 'metrics.jsonl').write_text(json.dumps(line) + '\n')
  result = {'test_accuracy': accuracy, 'seed': seed, 'params': 1000, 'macs': 2000, 'epochs': 1}
  (path / 'result.json').write_text(json.dumps(result))
