"""Several runs side by side."""

import json
import re
import shutil

import numpy as np
import pytest
from helpers import ROOT
from past_runs import write_search, write_training
from scipy import stats

from stretchnas_jax import compare
from stretchnas_jax.cells import zoo
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.cells.space import nas_bench_201
from stretchnas_jax.cli import app
from stretchnas_jax.runs import compare_runs

KEPT = ROOT / 'tests' / 'fixtures' / 'runs_0_1' / 'search'


@pytest.fixture
def seeds(tmp_path):
  for seed in range(3):
    write_search(tmp_path / f'seed_{seed}', seed=seed)
  return [tmp_path / f'seed_{seed}' for seed in range(3)]


def run(*words):
  app.run(compare.prepare, config=False, options=compare.OPTIONS, positional=('runs...',),
          argv=['compare', *map(str, words)])  # fmt: skip


def test_edges_are_counted_over_all_cells(seeds):
  runs = compare_runs.read(seeds)
  cells = [set(run.cell.normal) for run in runs]
  found = compare_runs.shared_edges(runs)['normal']
  assert {edge for edge, _ in found['all']} == set.intersection(*cells)
  some = set.union(*cells) - set.intersection(*cells)
  assert {edge for edge, _ in found['some']} == some
  assert all(n == sum(edge in cell for cell in cells) for edge, n in found['some'])


def test_rank_correlations_are_spearmans(seeds):
  runs = compare_runs.read(seeds)
  scores = [run.scores.edge_scores('normal') for run in runs]
  pairs = [stats.spearmanr(scores[a], scores[b])[0] for a, b in ((0, 1), (0, 2), (1, 2))]
  found = compare_runs.correlations(runs)['normal']
  assert found['edge_scores'] == pytest.approx(np.mean(pairs)) and found['pairs'] == 3


def test_searches_without_topology_have_no_correlation_of_edges(tmp_path):
  for seed in range(2):
    write_search(tmp_path / f'{seed}', 'none', seed=seed)
  found = compare_runs.correlations(compare_runs.read([tmp_path / '0', tmp_path / '1']))['reduce']
  assert found['edge_scores'] is None and -1 <= found['operations'] <= 1


def test_runs_that_differ_in_the_seed_alone_are_one_group(seeds, tmp_path):
  write_search(tmp_path / 'other', 'input_pairs', seed=5)
  first, other = compare_runs.groups(compare_runs.read([*seeds, tmp_path / 'other']))
  values = [0.6, 0.61, 0.62]
  assert first.seeds == (0, 1, 2) and first.accuracies.mean == pytest.approx(np.mean(values))
  half = stats.sem(values) * stats.t.ppf(0.975, 2)
  assert first.accuracies.interval == pytest.approx((0.61 - half, 0.61 + half))
  assert other.differs['topology.kind'] == 'input_pairs' and other.accuracies.n == 1


def test_trainings_of_two_cells_with_the_same_seeds_are_two_groups(tmp_path):
  cells = [zoo.GENOTYPES[name].to_dict() for name in ('DARTS_V1', 'DARTS_V2')]
  for name, cell, accuracy in (('own', cells[0], 0.9), ('random', cells[1], 0.8)):
    for seed in range(3):
      write_training(tmp_path / name / f'seed_{seed}', cell, seed, accuracy + 0.01 * seed)
  paths = [tmp_path / name / f'seed_{seed}' for name in ('own', 'random') for seed in range(3)]
  own, other = compare_runs.groups(compare_runs.read(paths))
  assert (own.path, other.path) == (tmp_path / 'own', tmp_path / 'random')
  assert own.seeds == other.seeds == (0, 1, 2)
  assert [g.accuracies.mean for g in (own, other)] == pytest.approx([0.91, 0.81])


def test_trainings_of_the_cells_of_several_searches_are_one_group(tmp_path):
  write_training(tmp_path / 'a', zoo.GENOTYPES['DARTS_V1'].to_dict(), 0)
  write_training(tmp_path / 'b', zoo.GENOTYPES['DARTS_V2'].to_dict(), 1)
  (one,) = compare_runs.groups(compare_runs.read([tmp_path / 'a', tmp_path / 'b']))
  assert one.seeds == (0, 1) and one.path == tmp_path
  assert '0.9000 to 0.9000 (range)' in compare_runs.text(
    compare_runs.read([tmp_path / 'a', tmp_path / 'b'])
  )


def test_own_parts_and_a_first_run_are_fields(tmp_path):
  for name in 'abcd':
    write_search(tmp_path / name, seed=1 if name == 'd' else 0)
  own = {'b': {'parts': {'rule': 'mine.rule'}}}
  own['c'] = {'start_from': {'run': '/runs/old/seed_0', 'step': 9, 'weights': 'ab'}}
  own['d'] = {'start_from': {'run': '/runs/old/seed_1', 'step': 9, 'weights': 'cd'}}
  for name, more in own.items():
    path = tmp_path / name / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
  found = compare_runs.groups(compare_runs.read(sorted(tmp_path.iterdir())))
  assert [group.differs for group in found] == [
    {'parts.rule': None, 'start_from.run': None},
    {'parts.rule': 'mine.rule', 'start_from.run': None},
    {'parts.rule': None, 'start_from.run': '/runs/old'},
  ]
  assert [group.seeds for group in found] == [(0,), (0,), (0, 1)]


def test_a_mean_has_finished_runs_alone(seeds, tmp_path):
  write_search(tmp_path / 'stopped', finished=False, seed=3)
  (group,) = compare_runs.groups(compare_runs.read([*seeds, tmp_path / 'stopped']))
  assert (group.seeds, group.unfinished, group.accuracies.n) == ((0, 1, 2), 1, 3)
  assert group.accuracies.mean == pytest.approx(0.61)


def test_the_command_prints_and_writes(seeds, tmp_path, capsys):
  run(*seeds)
  assert 'Rank correlation' in capsys.readouterr().out
  out = tmp_path / 'page.html'
  for _ in range(2):  # it replaces its own page
    run(*seeds, '--json', f'--out={out}')
  found = json.loads('{' + capsys.readouterr().out.rpartition('\n{')[2])
  assert [run['seed'] for run in found['runs']] == [0, 1, 2] and found['groups'][0]['n'] == 3
  page = out.read_text()
  assert page.count('<svg') == 3 and not re.search(r'(src|href)=|url\(|@import|<script', page)


def test_a_stopped_a_damaged_and_a_kept_run_stand_beside_the_others(seeds, tmp_path):
  write_search(tmp_path / 'stopped', finished=False)
  (seeds[0] / 'config.json').write_text('{')
  (seeds[1] / 'space.json').write_text('{')
  shutil.copytree(KEPT, tmp_path / 'kept')
  write_training(tmp_path / 'trained', json.loads((seeds[2] / 'genotype.json').read_text()))
  paths = [*seeds, tmp_path / 'stopped', tmp_path / 'kept', tmp_path / 'trained']
  runs = compare_runs.read(paths)
  states = [run.facts.state for run in runs]
  assert states == ['damaged', 'finished', 'finished', 'stopped', 'stopped', 'finished']
  assert all(isinstance(run.cell, Genotype) for run in runs)
  assert compare_runs.text(runs) and compare_runs.to_dict(runs)['rank_correlation']


def test_names_are_no_markup(tmp_path):
  evil = '<img src=x onerror=alert(1)>\x1b[31m\u202e'
  paths = [tmp_path / evil / str(seed) for seed in range(2)]
  for seed, path in enumerate(paths):
    write_search(path, seed=seed)
  page = compare_runs.page(compare_runs.read(paths))
  assert '<img' not in page and '\x1b' not in page and '\u202e' not in page


def test_one_run_is_not_compared(tmp_path):
  write_search(tmp_path / 'r')
  with pytest.raises(ValueError, match='1 run is given; a comparison needs at least two'):
    compare_runs.read([tmp_path / 'r'])
  with pytest.raises(ValueError, match='r is given more than once; a comparison needs two runs'):
    compare_runs.read([tmp_path / 'r', tmp_path / 'r'])


def test_searches_in_nas_bench_201_are_compared(tmp_path):
  for seed in range(2):
    write_search(tmp_path / str(seed), 'none', seed=seed, space=nas_bench_201())
  runs = compare_runs.read([tmp_path / '0', tmp_path / '1'])
  found = compare_runs.to_dict(runs)
  assert found['edges']['reduce'] == {'all': [], 'some': []} and found['edges']['normal']['some']
  assert found['rank_correlation']['normal']['pairs'] == 1
  assert 'Reduce' not in compare_runs.text(runs) and '</html>' in compare_runs.page(runs)
