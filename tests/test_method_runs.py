"""A method's config on digits: stopped and resumed, it ends as a search that nobody has stopped."""

import json

from helpers import ROOT, load_config, with_fields, without_clock

import stretchnas_jax
from stretchnas_jax.cells import genotype, graph, space

OWN = {
  'space': space.SearchSpace(graph.CellGraph(1), ('none', 'max_pool_3x3', 'skip_connect'))
}  # it compiles fast
SMALL = {
  'data.name': 'digits', 'data.image_size': 8, 'data.crop_padding': 1, 'data.fraction': 0.03,
  'model.channels': 2, 'model.num_layers': 1, 'model.form': 'merged', 'search.epochs': 3,
  'search.batch_size': 8, 'search.steps_per_call': 2, 'parallel.backend': 'single',
}  # fmt: skip


def test_snas_resumes_bit_for_bit(tmp_path):
  """It learns from one part of the data, with draws and a temperature that changes by epoch."""
  config = lambda: with_fields(load_config(ROOT / 'configs' / 'snas_cifar10.py'), SMALL)
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  result = stretchnas_jax.run_search(config(), whole, parts=OWN)
  stretchnas_jax.run_search(config(), stopped, parts=OWN, on_epoch=lambda line, state: True)
  assert stretchnas_jax.run_search(config(), stopped, parts=OWN) is not None
  lines = without_clock(whole / 'metrics.jsonl')
  assert without_clock(stopped / 'metrics.jsonl') == lines and len(lines) == 3
  assert (stopped / 'genotype.json').read_bytes() == (whole / 'genotype.json').read_bytes()
  found = genotype.Genotype.from_dict(result['genotype'])
  assert found.normal and found.reduce
  parts = json.loads((whole / 'run.json').read_text())['data']['parts']
  assert set(parts) == {'train'} and 0 <= lines[-1]['val_accuracy'] <= 1
