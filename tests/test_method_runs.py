"""A method's config on digits: stopped and resumed, it ends as a search that nobody has stopped."""

import json

import pytest
from helpers import ROOT, load_config, with_fields, without_clock

import stretchnas_jax
from experiments.reliability import methods
from stretchnas_jax.cells import genotype, graph, space
from stretchnas_jax.config import files

OWN = {
  'space': space.SearchSpace(graph.CellGraph(1), ('none', 'max_pool_3x3', 'skip_connect'))
}  # it compiles fast
SMALL = {
  'data.name': 'digits', 'data.image_size': 8, 'data.crop_padding': 1, 'data.fraction': 0.03,
  'model.channels': 2, 'model.num_layers': 1, 'model.form': 'merged', 'search.epochs': 3,
  'search.batch_size': 8, 'search.steps_per_call': 2, 'parallel.backend': 'single',
}  # fmt: skip


@pytest.mark.long
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


def test_every_search_config_is_killed_in_the_record_of_reliability():
  others = ('digits', 'folder', 'milenas_sc_imagenet', 'nas_bench_201', 'own_method', 'own_parts')
  searches = {name for name in files.named() if not name.startswith('train_')} - {*others}
  assert {case.partition(':')[0] for case in methods.CASES} == searches


def test_a_search_in_phases_is_killed_inside_each_and_at_each_border():
  config = methods.config_of('p_darts_cifar10:sc')
  assert [phase['model.num_layers'] for phase in config.search.phases] == [1, 2, 1]
  found = methods.spans_of(config)
  places = ['beginning', 'inside', 'border', 'inside', 'border', 'inside']
  assert [span.place for span in found] == places
  assert [span.phase for span in found] == [1, 1, 1, 2, 2, 3]
  border = found[2].newest.start
  assert found[1].newest.stop == border == found[3].newest.start - 1
