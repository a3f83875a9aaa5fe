"""The table of all runs below a folder: states, figures, and fields that differ."""

import json
import shutil

import pytest
from helpers import ROOT

from stretchnas_jax.cli import app
from stretchnas_jax.runs import __main__ as command
from stretchnas_jax.runs import overview, run_table, workdir
from stretchnas_jax.views import tables

KEPT = ROOT / 'tests' / 'fixtures' / 'runs_0_1'
SEARCH = {
  'seed': 0, 'data': {'name': 'digits'}, 'search': {'epochs': 3}, 'rule': {'kind': 'mixed'},
}  # fmt: skip


def write(path, config=SEARCH, epochs=2, result=None, argv=()):
  path.mkdir(parents=True)
  (path / 'config.json').write_text(json.dumps(config))
  (path / 'run.json').write_text(json.dumps({'argv': list(argv), 'starts': [{'argv': list(argv)}]}))
  lines = [{'step': 9 * e, 'epoch': e, 'val_accuracy': e / 10} for e in range(1, epochs + 1)]
  (path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  if result is not None:
    (path / 'result.json').write_text(json.dumps(result))
  return path


@pytest.fixture
def runs(tmp_path):
  write(tmp_path / 'a', result={'val_accuracy': 0.75, 'supernet_params': 1234}, epochs=3,
        argv=['stretchnas search', '--config=digits'])  # fmt: skip
  write(tmp_path / 'b' / 'seed_1', {**SEARCH, 'seed': 1, 'rule': {'kind': 'one_level'}})
  write(tmp_path / 'none_yet', epochs=0)
  damaged = write(tmp_path / 'damaged')
  (damaged / 'config.json').write_text('{')
  return tmp_path


def test_a_row_has_state_figures_and_fields_that_differ(runs):
  rows = {row['name']: row for row in run_table.rows_of(runs)}
  assert list(rows) == ['a', 'b/seed_1', 'damaged', 'none_yet']
  a, b = rows['a'], rows['b/seed_1']
  assert (a['state'], a['kind'], a['config'], a['seed']) == ('finished', 'search', 'digits', 0)
  assert (a['epoch'], a['epochs'], a['accuracy'], a['params']) == (3, 3, 0.75, 1234)
  assert (b['state'], b['epoch'], b['accuracy'], b['params']) == ('stopped', 2, 0.2, None)
  assert a['differs'] == {'rule.kind': 'mixed'} and b['differs'] == {'rule.kind': 'one_level'}
  assert rows['none_yet']['epoch'] == 0 and rows['none_yet']['accuracy'] is None
  assert (
    rows['damaged']['state'] == 'damaged' and 'config.json is damaged' in rows['damaged']['note']
  )


@pytest.mark.parametrize(
  'words', [['--config', 'digits'], ['-config=digits'], ['x', '--config=digits']]
)
def test_the_config_of_a_run_is_known_however_it_was_given(tmp_path, words):
  write(tmp_path / 'a', argv=['stretchnas search', *words, '--config.seed=1'])
  assert overview.read(tmp_path / 'a').named_config == 'digits'


def test_a_run_at_work_is_running_and_asking_does_not_disturb_it(runs):
  with workdir.Workdir.open(runs / 'a' / 'own', SEARCH, argv=()):
    assert overview.read(runs / 'a' / 'own').state == 'running'
    with pytest.raises(ValueError, match='in use by another process'):
      workdir.Workdir.open(runs / 'a' / 'own', SEARCH, argv=())
  assert overview.read(runs / 'a' / 'own').state != 'running'


def test_a_torn_last_line_is_a_stop_and_another_one_is_damage(runs):
  path = runs / 'b' / 'seed_1' / 'metrics.jsonl'
  whole = path.read_text()
  path.write_text(whole + '{"step": 5')
  assert overview.read(path.parent).state == 'stopped'
  path.write_text('{"step": 5\n' + whole)
  found = overview.read(path.parent)
  assert found.state == 'damaged' and 'metrics.jsonl' in found.note and found.epoch == 2


def test_kept_runs_of_version_0_1_are_listed(tmp_path):
  shutil.copytree(KEPT, tmp_path / 'kept')
  rows = run_table.rows_of(tmp_path)
  assert [(row['kind'], row['state'], row['epoch']) for row in rows] == [
    ('search', 'stopped', 1), ('train', 'stopped', 1),
  ]  # fmt: skip
  assert all(row['accuracy'] is not None for row in rows)


def test_several_seeds_are_rows_and_their_folder_is_none(tmp_path):
  (tmp_path / 'm').mkdir()
  (tmp_path / 'm' / 'config.json').write_text(json.dumps({**SEARCH, 'seeds': [10, 9]}))
  (tmp_path / 'm' / 'run.json').write_text('{}')
  for seed in (10, 9):
    write(tmp_path / 'm' / f'seed_{seed}', {**SEARCH, 'seed': seed})
  assert [row['seed'] for row in run_table.rows_of(tmp_path, 'seed')] == [9, 10]
  assert [path.name for path in overview.each_of(tmp_path / 'm')] == ['seed_9', 'seed_10']
  with pytest.raises(ValueError, match='holds several runs'):
    overview.read(tmp_path / 'm')


def test_rows_are_sorted_with_the_best_first_and_gaps_last(runs):
  names = [row['name'] for row in run_table.rows_of(runs, 'accuracy')]
  assert names[0] == 'a' and names[-1] == 'none_yet'
  with pytest.raises(ValueError, match='did you mean accuracy'):
    run_table.rows_of(runs, 'acuracy')


def test_the_command_prints_a_table_or_json(runs, capsys):
  for options in ([], ['--json', '--sort=epoch']):
    app.run(command.prepare, config=False, options=command.OPTIONS, positional=('folder',),
            argv=['runs', str(runs), *options])  # fmt: skip
  out = capsys.readouterr().out
  table, _, rest = out.partition('[\n')
  assert table.splitlines()[0].split()[:3] == ['name', 'state', 'kind']
  assert [row['name'] for row in json.loads('[' + rest)][0] == 'a'


def test_a_name_with_markup_and_control_characters_stays_one_line(tmp_path):
  evil = 'a\x1b[31m\n<script>\u202e'
  write(tmp_path / evil)
  lines = run_table.text(run_table.rows_of(tmp_path)).splitlines()
  assert len(lines) == 2 and lines[1].isprintable() and '<script>' in lines[1]
  shown = tables.page(['name'], [[evil]], caption='<b>')
  assert '<script>' not in shown and '<b>' not in shown and '\x1b' not in shown


def test_a_folder_that_is_not_there_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='is not a folder'):
    run_table.rows_of(tmp_path / 'no')
  assert run_table.text(run_table.rows_of(tmp_path)) == 'no runs'


def test_wide_letters_keep_the_columns_straight():
  found = tables.text(['name', 'n'], [['日本', 1], ['abcd', 20]])
  assert found.splitlines() == ['name   n', '日本   1', 'abcd  20']
