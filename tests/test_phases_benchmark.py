"""The benchmark of P-DARTS' phases: one depth, fewer operations, and a row for each phase."""

import json

import pytest

from experiments.benchmarks import phases

TINY = ['--layers=1', '--channels=2', '--image-size=8', '--batch=8', '--epochs=2']
FACTS = {
  'machine': {'cpu': 'a CPU', 'cores': 2, 'gpu': None},
  'versions': {'jax': '0.10.2'},
  'date': '2026-11-29',
  'git_commit': 'abc',
}


def test_phases_have_one_depth_and_lose_operations_only():
  config = phases.config_of(phases.parse(TINY))
  assert [phase['model.num_layers'] for phase in config.search.phases] == [1, 1, 1]
  assert [phase.get('keep') for phase in config.search.phases] == [None, 5, 3]
  assert config.search.epochs == 6 and config.search.warmup_epochs == 0


def test_the_table_has_shares_of_operations_and_of_time():
  rows = [
    {'phase': 1, 'operations': 8, 'multiply_adds': 100.0, 'step_seconds': [2.0, 4.0, 3.0]},
    {'phase': 2, 'operations': 5, 'multiply_adds': 80.0, 'step_seconds': [1.5]},
    {'phase': 3, 'operations': 3, 'multiply_adds': 45.0, 'step_seconds': [1.2]},
    {'phase': 'rest', 'operations': 1, 'multiply_adds': 10.0, 'step_seconds': [0.6]},
  ]
  text = phases.markdown({**FACTS, 'about': 'C 2', 'rows': rows})
  assert '| 1 | 8 | 1.000 | 1.00 | 3 (2 - 4) | 1.00 | 1.00 |' in text
  assert '| 2 | 5 | 0.625 | 0.80 | 1.5 (1.5 - 1.5) | 0.50 | 0.38 |' in text
  assert '| 3 | 3 | 0.375 | 0.45 | 1.2 (1.2 - 1.2) | 0.40 | 0.25 |' in text


def test_an_epoch_alone_would_time_the_compilation(capsys):
  with pytest.raises(SystemExit):
    phases.parse(['--epochs=1'])
  assert 'must be at least 2' in capsys.readouterr().err


@pytest.mark.long
def test_the_program_leaves_a_row_for_each_phase(tmp_path):
  phases.main([*TINY, '--fraction=0.05', f'--out={tmp_path}'])
  rows = json.loads((tmp_path / 'phases.json').read_text('utf-8'))['rows']
  assert [row['operations'] for row in rows] == [8, 5, 3, 1]
  assert rows[0]['multiply_adds'] > rows[1]['multiply_adds'] > rows[2]['multiply_adds']
  assert rows[2]['multiply_adds'] > rows[3]['multiply_adds'] > 0
  assert all(len(row['step_seconds']) == 1 and row['step_seconds'][0] > 0 for row in rows)
