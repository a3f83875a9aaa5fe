"""The experiment of searches in NAS-Bench-201."""

import itertools
import json
import shutil
import tarfile

import numpy as np
import pytest

from experiments.nas_bench_201 import (
  chance,
  collect,
  lines,
  plan,
  plots,
  program,
  scales,
  tables,
)
from experiments.nas_bench_201 import ranking as ranking_lib
from experiments.nas_bench_201.plan import Setting
from experiments.nas_bench_201.rows import PAIRS, ROWS
from stretchnas_jax import search
from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.cells.nas_bench_201 import Table
from stretchnas_jax.cli import command_line
from stretchnas_jax.runs import combinations
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.sweeps import slurm

# An invented table: the accuracy of a cell grows with its number.
ACCURACIES = np.arange(nas_bench_201.NUM_CELLS) / 200


def test_seeds_come_in_turn_so_that_a_stop_leaves_whole_comparisons(tmp_path):
  keys = 'pc_darts', 'darts', 'milenas_sc', 'darts_sc_two_way'
  setting = Setting('cpu', scales.SCALES['cpu']._replace(most_seeds=2), tmp_path, keys)
  found = [(trial.key, trial.seed) for trial in plan.trials(setting)]
  assert found == [
    ('darts', 0), ('milenas_sc', 0), ('darts', 1), ('milenas_sc', 1),
    ('darts_sc_two_way', 0), ('darts_sc_two_way', 1), ('pc_darts', 0), ('pc_darts', 1),
  ]  # fmt: skip


def test_groups_come_one_after_another_with_their_numbers_of_seeds(tmp_path):
  setting = Setting('cpu', scales.SCALES['cpu'], tmp_path, tuple(ROWS))
  found = [trial.key for trial in plan.trials(setting)]
  counts = {key: found.count(key) for key in ROWS}
  assert set(counts.values()) == {5, 10, 20}
  assert all(counts[key] == 20 for key in found[:140]) and counts[found[-1]] == 5
  of_gpu = Setting('gpu', scales.SCALES['gpu'], tmp_path, scales.SCALES['gpu'].rows)
  assert len(plan.trials(of_gpu)) == 5


def config_of(key, tmp_path):
  """Returns the config of the first search of a row, as the program reads it."""
  (trial,) = plan.trials(Setting('cpu', scales.SCALES['cpu'], tmp_path, (key,), (0,)))
  options = (*command_line.start_options(True, True), *search.OPTIONS)
  return command_line.parse(['search', *trial.job.words], True, options, ()).config


@pytest.mark.parametrize('key', ROWS)
def test_a_row_is_a_search_and_its_control_learns_from_two_parts(key, tmp_path):
  config = config_of(key, tmp_path)
  combinations.check(config, Parts())
  row = ROWS[key]
  if config.data.split == 'three_way' and row.group.seeds > 5:  # axis rows differ from such a row
    control = f'{key}_two_way'
    assert config_of(control, tmp_path).data.split == 'two_way'
    assert (key, control) in PAIRS and ROWS[control].method == row.method
    assert ROWS[control].group.seeds == row.group.seeds
  if row.method.endswith('_sc') and '_two_way' not in key:
    assert [second for first, second in PAIRS if first == key]


def test_pairs_are_of_rows():
  assert {key for pair in PAIRS for key in pair} == set(ROWS)


def test_folders_below_home_are_found(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('HOME', str(tmp_path))
  words = ['--scale=cpu', '--only=darts', '--seeds=3', '--folder=~/runs', '--out=~/out']
  program.main(['nas_bench_201', 'list', *words])
  assert f'--workdir={tmp_path}/runs/searches/darts/seed_3' in capsys.readouterr().out
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'cpu.jsonl').write_text(json.dumps(line_of('darts', 3)) + '\n')
  program.main(['nas_bench_201', 'list', *words])
  assert capsys.readouterr().out.startswith('# finished: ')


def test_each_search_is_a_job_of_slurm(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(slurm, 'open_executor', lambda folder, parameters: parameters)
  monkeypatch.setattr(slurm, 'submit', lambda parameters, jobs: enumerate(jobs, 7))
  (tmp_path / 'train').mkdir()
  program.main([
    'nas_bench_201', 'run', '--scale=cpu', '--only=darts*', '--seeds=3', '--launcher=slurm',
    f'--folder={tmp_path / "folder"}', f'--data-path={tmp_path}',
  ])  # fmt: skip
  first, *others = capsys.readouterr().out.splitlines()
  assert first.startswith('7: python -m stretchnas_jax.search --config=nas_bench_201:darts_first ')
  assert '--config.data.name=folder' in first and '--config.seed=3' in first
  assert len(others) == 6 and '--config.data.split=two_way' in others[2]


def line_of(key='darts_sc', seed=0, **fields):
  """Returns a line of an invented search with three epochs."""
  curve = [0.5, 0.6, 0.7]
  return {
    'row': key, 'seed': seed, 'cells': [1, 2, 3], 'six_edges': [1, 2, 3], 'alpha_options': 4,
    'train_accuracy': curve, 'val_accuracy': curve, 'alpha_entropy': curve, 'alpha_rate': 0.01,
    'beta_rate': 0.01, 'split': 'three_way', 'images': None, 'steps': 30, 'image_passes': 99,
    'seconds': 1.0, 'ranking': None, **fields,
  }  # fmt: skip


def test_a_rate_of_betas_own_is_shown():
  found = collect.collect(
    [line_of(), line_of('darts_sc_fast_beta', beta_rate=0.03)],
    scales.SCALES['cpu'], Table('invented', ACCURACIES),
  )  # fmt: skip
  first, second = tables.markdown(found).split('\n')[6:8]
  assert '| 0.01 | three way' in first and '| 0.01, beta 0.03 | three way' in second


def test_tau_belongs_to_the_table_that_is_given():
  codes = [3, 1, 7, 5, 9000]
  measured = [0.1, 0.2, 0.2, 0.4, 0.3]
  ranking = {'codes': codes, 'accuracies': {'10': measured, '50': [0.5] * 5}}
  upwards, downwards = Table('a', ACCURACIES), Table('b', 100 - ACCURACIES)
  expected = tau_of(measured, codes)
  assert taus_of(ranking, upwards) == {10: pytest.approx(expected), 50: 0}
  assert taus_of(ranking, downwards) == {10: pytest.approx(-expected), 50: 0}
  few = np.full_like(ACCURACIES, np.nan)
  few[codes[:4]] = codes[:4]
  expected = tau_of(measured[:4], codes[:4])
  assert taus_of(ranking, Table('c', few))[10] == pytest.approx(expected)


def taus_of(ranking, table):
  return {epoch: order.tau for epoch, order in ranking_lib.orders(ranking, table).items()}


def test_the_order_of_cells_is_compared_with_their_convolutions():
  codes = ranking_lib.drawn_codes(40)
  cells = [nas_bench_201.from_code(code).operations for code in codes]
  numbers = [sum(name in ('nor_conv_1x1', 'nor_conv_3x3') for name in names) for names in cells]
  assert set(numbers) >= {0, 1, 2, 3, 4}
  measured = np.random.default_rng(0).random(40)
  ranking = {'codes': codes, 'accuracies': {'5': list(measured)}}
  order = ranking_lib.orders(ranking, Table('invented', ACCURACIES))[5]
  assert order.convolutions == pytest.approx(tau_of(measured, numbers))
  assert order.accuracy == pytest.approx(sum(measured) / 40)
  whole = ranking_lib.order_of_table(codes, Table('invented', ACCURACIES))
  assert whole.tau == 1 and whole.accuracy == pytest.approx(sum(codes) / 200 / 40 / 100)
  assert whole.convolutions == pytest.approx(tau_of(codes, numbers))


def test_the_curve_of_tau_has_the_same_seeds_at_every_epoch():
  new = {'codes': [1, 2, 3], 'accuracies': {'1': [1, 2, 3], '3': [3, 2, 1]}}
  old = {'codes': [1, 2, 3], 'accuracies': {'3': [1, 2, 3]}}
  rows = [line_of(seed=0, ranking=old), line_of(seed=1, ranking=new), line_of(seed=2)]
  found = collect.collect(rows, scales.SCALES['cpu'], Table('invented', ACCURACIES))
  points = found['rows']['darts_sc']['taus']
  assert [(one['epoch'], one['n'], one['mean']) for one in points] == [(1, 1, 1), (3, 1, -1)]
  assert points[0]['accuracy'] == 2
  page = tables.markdown(found)
  assert '| DARTS-SC | 3 | 1 | -1.00 |' in page and '| the table itself |  |  | 1.00 |' in page


def test_charts_name_the_source_and_each_group_has_its_own():
  rows = [line_of(key, seed) for key in ROWS for seed in (0, 1)]
  found = collect.collect(rows, scales.SCALES['cpu'], Table('invented', ACCURACIES))
  drawn = plots.plots_of(found)
  assert set(drawn) == {'', '-epochs', '-relaxations-epochs', '-changes-epochs'}
  assert all('Accuracies: invented' in text for text in drawn.values())
  of_epochs = ''.join(text for ending, text in drawn.items() if ending)
  assert all(f'{row.title} (n = 2)' in of_epochs for row in ROWS.values())


def finished(tmp_path, monkeypatch, made):
  """Adds invented searches, and returns the lines."""
  monkeypatch.setattr(plan.Job, 'finished', True)
  monkeypatch.setattr(lines, 'of_search', lambda trial, scale: made(trial.key, trial.seed))
  scale = scales.SCALES['cpu']
  trials = plan.trials(Setting('cpu', scale, tmp_path, ('darts_sc',), (0, 1)))
  return lines.add(tmp_path / 'cpu.jsonl', trials, scale)


def test_searches_on_other_images_never_join(tmp_path, monkeypatch):
  finished(tmp_path, monkeypatch, lambda key, seed: line_of(key, seed, images='a'))
  before = (tmp_path / 'cpu.jsonl').read_text()
  (tmp_path / 'cpu.jsonl').write_text(before.splitlines()[0] + '\n')
  with pytest.raises(ValueError, match='holds searches on other images .* choose another --out'):
    finished(tmp_path, monkeypatch, lambda key, seed: line_of(key, seed, images='b'))
  assert (tmp_path / 'cpu.jsonl').read_text() == before.splitlines()[0] + '\n'


def test_a_line_of_a_row_that_is_gone_stays(tmp_path, monkeypatch):
  gone = line_of('a_former_row')
  (tmp_path / 'cpu.jsonl').write_text(json.dumps(gone) + '\n')
  assert finished(tmp_path, monkeypatch, line_of) == [line_of(seed=0), line_of(seed=1), gone]


def test_measurements_join_those_of_another_machine(tmp_path, monkeypatch):
  cells = [4, 5]
  known = line_of(ranking={'codes': cells, 'accuracies': {'1': [0.1, 0.2], '3': [0.3, 0.4]}})
  (tmp_path / 'cpu.jsonl').write_text(json.dumps(known) + '\n')
  here = {'codes': cells, 'accuracies': {'2': [0.5, 0.6]}}
  monkeypatch.setattr(lines, '_ranking', lambda trial: None if trial.seed else here)
  first, second = finished(tmp_path, monkeypatch, line_of)
  assert sorted(first['ranking']['accuracies']) == ['1', '2', '3'] and second['ranking'] is None


def test_every_search_of_a_scale_has_the_same_rate_but_one_row_of_its_own(tmp_path):
  setting = Setting('cpu', scales.SCALES['cpu'], tmp_path, ('darts', 'darts_sc_fast_beta'), (0,))
  first, second = (trial.job.words for trial in plan.trials(setting))
  assert '--config.alpha.learning_rate=0.01' in first
  assert '--config.alpha.learning_rate=0.01' in second
  assert '--config.beta.learning_rate=0.03' in second
  assert len({trial.folder for trial in plan.trials(setting)}) == 2


@pytest.mark.parametrize(
  'rule, split, passes',
  [
    ('first_order', 'two_way', 2), ('first_order', 'three_way', 3), ('mixed', 'two_way', 3),
    ('mixed', 'three_way', 4), ('one_level', 'one_way', 1), ('second_order', 'two_way', 5),
  ],
)  # fmt: skip
def test_image_passes_count_every_loss_of_a_step(rule, split, passes):
  config = {
    'data': {'split': split}, 'rule': {'kind': rule},
    'search': {'batch_size': 64, 'warmup_epochs': 0, 'arch_every': 1},
  }  # fmt: skip
  assert lines.image_passes(config, 100, 10) == 6400 * passes
  config['search']['warmup_epochs'] = 5
  assert lines.image_passes(config, 100, 10) == 6400 * (1 + (passes - 1) / 2)


def test_chance_is_that_of_the_table():
  found = chance.baselines(Table('invented', ACCURACIES))
  assert found['a cell drawn from all']['mean'] == pytest.approx(ACCURACIES.mean())
  best = [found[f'the best of {k} drawn cells']['mean'] for k in (2, 8, 32)]
  assert best == sorted(best)
  assert best[0] == pytest.approx(2 / 3 * ACCURACIES.max(), rel=0.02)  # of two uniform numbers


def tau_of(a, b):
  """Counts pairs of the same order, of the other order, and ties of one side."""
  same = other = only_a = only_b = 0
  for i, j in itertools.combinations(range(len(a)), 2):
    sign = np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])
    same, other = same + (sign > 0), other + (sign < 0)
    only_a += a[i] == a[j] and b[i] != b[j]
    only_b += b[i] == b[j] and a[i] != a[j]
  total = same + other
  return (same - other) / max(1, (total + only_a) * (total + only_b)) ** 0.5


@pytest.mark.long
def test_a_run_leaves_lines_and_goes_on_from_them(tmp_path, monkeypatch, capsys):
  tiny = scales.SCALES['tiny']
  fields = {
    **tiny.fields,
    'search.epochs': 3,
    'checkpoint.keep_every_epochs': 2,
    'data.fraction': 0.1,
    'search.batch_size': 16,
  }
  smallest = tiny._replace(fields=fields, ranked=9, ranked_images=48)
  monkeypatch.setitem(program.SCALES, 'tiny', smallest)
  table = tmp_path / 'table.csv'
  cells = (nas_bench_201.to_text(cell) for cell in nas_bench_201.all_cells())
  rows = [f'{cell},{accuracy}' for cell, accuracy in zip(cells, ACCURACIES)]
  table.write_text('\n'.join(['cell,accuracy', *rows]))
  options = '--only=darts_sc', '--seeds=0', f'--folder={tmp_path}', f'--table={table}'

  def call(verb):
    program.main(['nas_bench_201', verb, *options])
    return capsys.readouterr().out

  with pytest.raises(SystemExit):
    call('rank')  # no search yet
  call('run')
  assert 'darts_sc seed 0, epoch 2: tau' in call('rank') and not call('rank')
  ranking = json.loads((tmp_path / 'searches' / 'darts_sc' / 'seed_0' / 'ranking.json').read_text())
  assert list(map(len, ranking['accuracies'].values())) == [9, 9]
  (line,) = lines.read(tmp_path / 'results' / 'tiny.jsonl')
  assert (line['row'], line['seed'], len(line['cells'])) == ('darts_sc', 0, 3)
  assert line['ranking'] == ranking and line['alpha_rate'] == line['beta_rate'] == tiny.rate
  (tmp_path / 'searches' / 'darts_sc' / 'seed_0' / 'ranking.json').unlink()
  steps = tmp_path / 'searches' / 'darts_sc' / 'seed_0' / 'checkpoints'
  _, of_epoch_2, _ = sorted(steps.iterdir(), key=lambda path: int(path.name))
  (of_epoch_2 / 'meta' / 'metadata').write_text('{}')
  assert call('rank').startswith('darts_sc seed 0, epoch 3: tau')
  (again,) = lines.read(tmp_path / 'results' / 'tiny.jsonl')
  assert again == line
  assert call('pack').endswith('tiny.tar.xz: 1 of 1 searches\n')
  with tarfile.open(tmp_path / 'results' / 'tiny.tar.xz') as archive:
    names = archive.getnames()
  assert 'searches/darts_sc/seed_0/scores.jsonl' in names and not any('checkp' in n for n in names)
  shutil.rmtree(tmp_path / 'searches')
  assert call('list').startswith('# finished: ')
  call('run')
  assert not (tmp_path / 'searches').exists()
  page = call('collect')
  assert '| DARTS-SC | 1 |' in page and str(table) in page
  (row,) = json.loads((tmp_path / 'results' / 'tiny.json').read_text())['rows'].values()
  assert row['accuracies'] == [pytest.approx(line['cells'][-1] / 200)]
  assert '| DARTS-SC | 2 | 1 |' in page and [one['epoch'] for one in row['taus']] == [2, 3]
  call('plot')
  assert "Kendall's tau" in (tmp_path / 'results' / 'tiny-ranking.svg').read_text()
