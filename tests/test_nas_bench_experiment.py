"""The experiment of searches in NAS-Bench-201."""

import itertools
import json
import shutil

import numpy as np
import pytest

from experiments.nas_bench_201 import chance, lines, plan, program, scales
from experiments.nas_bench_201.plan import Setting
from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.cells.nas_bench_201 import Table

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
  truth = [code / 200 for code in ranking['codes']]
  assert set(ranking['tau']) == {'2', '3'}
  for epoch, tau in ranking['tau'].items():
    assert tau == pytest.approx(tau_of(ranking['accuracies'][epoch], truth), abs=1e-4)
  (line,) = lines.read(tmp_path / 'results' / 'tiny.jsonl')
  assert (line['row'], line['seed'], len(line['cells'])) == ('darts_sc', 0, 3)
  assert line['tau'] == ranking['tau'] and line['rate'] == tiny.rate
  (tmp_path / 'searches' / 'darts_sc' / 'seed_0' / 'ranking.json').unlink()
  steps = tmp_path / 'searches' / 'darts_sc' / 'seed_0' / 'checkpoints'
  oldest = min(steps.iterdir(), key=lambda path: int(path.name))
  (oldest / 'meta' / 'metadata').write_text('{}')
  assert call('rank').startswith('darts_sc seed 0, epoch 3: tau')
  (again,) = lines.read(tmp_path / 'results' / 'tiny.jsonl')
  assert again == line
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
