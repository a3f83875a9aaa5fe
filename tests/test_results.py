"""The results of an experiment: as values, as a table, and as plots."""

import json
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from small_experiment import SMALL_EXPERIMENT, canned, finish, setting_of

from stretchnas_jax.sweeps import collect, plots, program, searched, tables, trials
from stretchnas_jax.sweeps.scales import PAPER, TINY
from stretchnas_jax.sweeps.spec import IMAGENET, Experiment, Run, Search
from stretchnas_jax.views import charts


def test_the_table_shows_finished_and_missing_runs(tmp_path):
  results = collect.collect(SMALL_EXPERIMENT, canned(tmp_path))
  json.dumps(results, allow_nan=False)
  rows = results['rows']
  ours, published = rows['ours'], rows['zoo']
  assert (ours['n'], ours['mean'], ours['status']) == (2, 2.5, '2 of 3 seeds')
  assert ours['std'] == pytest.approx(0.5**0.5) and ours['interval'] == (2.0, 3.0)
  assert ours['best'] == {'value': 2.0, 'seed': 1}
  assert ours['search_hours'] == 1 and published['search_hours'] is None
  assert published['status'] == 'run' and published['params_off'] == pytest.approx(0.4 / 3.5)
  assert rows['chance']['status'] == 'not run' and rows['other']['status'] == 'of others'
  assert ours['configs']['train'] == {'seed': 0}
  assert results['made_with'][0]['versions'] == {'jax': '1'} and len(results['made_with']) == 1
  difference = results['comparisons'][0]
  assert difference['seeds'] == [0, 1] and difference['mean'] == pytest.approx(0.25)
  lines = {line.split('|')[1].strip(): line for line in tables.markdown(results).splitlines()
           if line.startswith('|')}  # fmt: skip
  figures = '| 2.70 ± 0.10 | 2.50 ± 0.71 | 2.00 .. 3.00 (range) | 2 of 3 seeds | 2.00 (seed 1) |'
  assert figures in lines['ours']
  assert '3.900 (up to 11 % off)' in lines['published'] and 'off' not in lines['ours']
  assert lines['random'].count('not run') == 2 and '| 2.50 | - |' in lines['of others']
  assert '+0.25' in lines['ours minus published']


def test_searches_are_shown_with_their_history(tmp_path):
  results = collect.collect(SMALL_EXPERIMENT, canned(tmp_path))
  assert results['searches'].keys() == {'learned'}
  found = results['searches']['learned']['runs']
  assert len(found) == 2
  assert (found[0]['depth'], found[0]['edges'], found[0]['zero_from']) == (2, 2, 3)
  line = '| learned | 8 | 2 | 2, 2 | 2, 2 | 0.900, 0.900 | 3, 3 of 50 | 0.20, 0.75; 0.20, 0.75 |'
  assert line in tables.markdown(results)
  points = searched.mean_curves(results['searches'])['penalty']['learned']
  assert [point[:2] for point in points] == [(1, 0.0), (2, 0.25), (3, 0.0)]
  pytest.importorskip('matplotlib')
  drawn = plots.plots_of(SMALL_EXPERIMENT, results)
  assert set(drawn) == {'', '-penalty', '-none_weight_max'}


@pytest.mark.parametrize(
  'penalties, epoch', [([0, 0], 1), ([0.1, 0, 0], 2), ([0, 0.1], None), ([], None)]
)
def test_the_epoch_from_which_the_penalty_stays_zero(penalties, epoch):
  assert searched.zero_from(penalties) == epoch


def test_depth_is_the_longest_path_of_the_normal_cell(tmp_path):
  run = Run('cell', 'learned')
  experiment = Experiment('x', SMALL_EXPERIMENT.searches, {'a': run}, measure='depth')
  setting = setting_of(TINY, tmp_path, seeds=(4,))
  finish(tmp_path / 'searches' / 'learned' / 'seed_4', seconds=1, val_accuracy=0.5, penalty=0)
  results = collect.collect(experiment, setting)
  assert results['rows']['a']['mean'] == 2 and results['rows']['a']['best'] is None
  pytest.importorskip('matplotlib')
  drawn = plots.plots_of(experiment, results)
  assert set(drawn) == {'', '-a-seed-4', '-penalty', '-none_weight_max'}
  for text in drawn.values():
    ET.fromstring(text)


def test_intervals_and_hollow_marks_are_drawn(tmp_path):
  pytest.importorskip('matplotlib')
  runs = {
    f'{cell}_{x}': Run(f'{cell} {x}', cell, x, 3.5, series=cell, x=x)
    for cell in ('learned', 'DARTS_V2') for x in (8, 12)
  }  # fmt: skip
  experiment = Experiment('curves', SMALL_EXPERIMENT.searches, runs, x='layers')
  setting = setting_of(PAPER, tmp_path, seeds=(0, 1))
  for trial, error in zip(trials.trials(experiment, runs['learned_8'], setting), (3.0, 2.0)):
    finish(trial.search, seconds=1, val_accuracy=1, penalty=0)
    finish(
      trial.training, test_error_percent=error, params=1, channels=2, num_layers=8, macs=1,
      flops_ptflops=1, seconds=1,
    )  # fmt: skip
  figure = plots.main_chart(experiment, collect.collect(experiment, setting))
  lines = figure.axes[0].get_lines()
  marks = [line for line in lines if line.get_marker() == 'o']
  assert [line.get_markerfacecolor() for line in marks] == ['white']  # the layers of its search
  assert [line.get_ydata()[0] for line in marks] == [2.5]
  intervals = [list(line.get_ydata()) for line in lines if len(line.get_ydata()) == 2]
  assert intervals == [[2.0, 3.0]]
  text = charts.svg_of(figure)
  again = plots.main_chart(experiment, collect.collect(experiment, setting))
  assert 'DARTS_V2: not run' in text and text == charts.svg_of(again)


def test_rows_of_dots_show_every_seed_and_the_paper():
  pytest.importorskip('matplotlib')
  rows = [
    charts.DotRow('ours', [2.0, 3.0, 3.0], 2.67, (1.0, 4.0), published=2.5),
    charts.DotRow('others', []),
  ]
  figure = charts.dots('A title', rows, 'error, %')
  lines = figure.axes[0].get_lines()
  drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]
  assert drawn == [
    ([2.5], [0]), ([1.0, 4.0], [0, 0]), ([2.67], [0]), ([2.0], [0.0]), ([3.0, 3.0], [-0.1, 0.1])
  ]  # fmt: skip
  text = charts.svg_of(figure)
  for words in ('A title', 'error, %', 'ours', 'others', 'not run', 'ring: the paper'):
    assert words in text


@pytest.mark.parametrize('count', [2, 9, 20])
def test_equal_values_stand_apart_and_in_the_row_of_their_run(count):
  pytest.importorskip('matplotlib')
  (axes,) = charts.dots('A title', [charts.DotRow('ours', [2.0] * count)], 'error, %').axes
  heights = np.sort(axes.lines[0].get_ydata())
  assert len(heights) == count and np.diff(heights).min() > 0.03
  assert heights[0] > -0.5 and heights[-1] < 0.5


def test_a_plot_without_matplotlib_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(SystemExit) as stop:
    program.main(SMALL_EXPERIMENT, ['x', 'plot', f'--folder={tmp_path}'])
  assert stop.value.code == 2
  assert (
    capsys.readouterr().err == 'error: charts need matplotlib: pip install -e ".[experiments]"\n'
  )


def words_of(figure):
  """Returns all texts of a chart, on one line."""
  root = ET.fromstring(charts.svg_of(figure))
  texts = [''.join(part.itertext()) for part in root.iter() if part.tag.endswith('text')]
  return ' '.join(' '.join(texts).split())


def test_every_chart_names_its_data_its_scale_and_its_seeds(tmp_path):
  pytest.importorskip('matplotlib')
  results = collect.collect(SMALL_EXPERIMENT, canned(tmp_path))
  words = words_of(plots.main_chart(SMALL_EXPERIMENT, results))
  assert 'CIFAR-10 as published, 50 epochs of search and 600 of training; n = 0 to 3 seeds' in words
  assert 'ours (n = 2)' in words and 'published (n = 3)' in words
  assert 'mean with its 95 % t interval or the range of two seeds; small: single seeds' in words
  for ending, text in plots.plots_of(SMALL_EXPERIMENT, results).items():
    assert 'as published, 50 epochs' in text and 'n = ' in text, ending
  assert 'Scale: CIFAR-10 as published' in tables.markdown(results)


def test_axes_show_the_numbers_that_were_used(tmp_path):
  """At a small scale, 3 layers stand for 8 of the paper, and epoch 8 for its epoch 20."""
  pytest.importorskip('matplotlib')
  for counts, number, used in (('layers', 8, 3), ('epochs', 20, 8), ('', 8, 8)):
    run = Run('cell', 'DARTS_V2', 8, 3.5, series='cell', x=number)
    experiment = Experiment('curve', {}, {'a': run}, x='number', x_counts=counts)
    setting = setting_of(TINY, tmp_path / (counts or 'other'), seeds=(0, 1, 2))
    for trial in trials.trials(experiment, run, setting):
      finish(
        trial.training, test_error_percent=2.0, params=1, channels=2, num_layers=3, macs=1,
        flops_ptflops=1, seconds=1,
      )  # fmt: skip
    results = collect.collect(experiment, setting)
    assert (results['rows']['a']['x'], results['rows']['a']['paper_x']) == (used, number)
    figure = plots.main_chart(experiment, results)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == [f'{used}']
    words = words_of(figure)
    assert "Scikit-learn's digits of 8x8 pixels, 20 epochs of search" in words
    assert 'n = 3 seeds' in words and 'layers here: 3 for 8, 4 for 12' in words
    assert 'means, 95 % t intervals' in words


def test_an_experiment_on_large_images_names_their_stand_in(tmp_path):
  run = Run('cell', 'DARTS_V2', 14, 5.0, recipe=IMAGENET)
  experiment = Experiment('large', {}, {'a': run})
  assert 'enlarged to 32x32' in collect.collect(experiment, setting_of(TINY, tmp_path))['scale']


def test_a_search_that_stands_in_is_named_in_curves_and_tables(tmp_path):
  pytest.importorskip('matplotlib')
  second = Search('configs/darts_cifar10.py:second', 8)
  run = Run('DARTS, 8 layers', 'second', 8, 3.5, series='DARTS', x=8)
  experiment = Experiment('curve', {'second': second}, {'a': run}, x='layers')
  results = collect.collect(experiment, setting_of(TINY, tmp_path))
  assert results['rows']['a']['series'] == 'DARTS [1st order here]'
  assert 'DARTS [1st order here]: not run' in words_of(plots.main_chart(experiment, results))
  assert searched.search_title('second', results) == 'second [1st order here]'
  assert collect.collect(experiment, setting_of(PAPER, tmp_path))['stand_ins'] == {}
