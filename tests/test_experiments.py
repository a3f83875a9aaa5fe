"""The paper's experiments: their plans resolve, their results are read as they are."""

import importlib
import itertools
import json
import os
import pathlib
import re
import shlex
import sys
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from small_experiment import SMALL_EXPERIMENT, canned, finish, setting_of

from stretchnas_jax import config as config_lib
from stretchnas_jax import search, train
from stretchnas_jax.cells import zoo
from stretchnas_jax.cli import command_line
from stretchnas_jax.runs import build, find_cell, train_plan
from stretchnas_jax.sweeps import (
  collect,
  jobs,
  plots,
  program,
  running,
  searched,
  slurm,
  statistics,
  tables,
  trials,
)
from stretchnas_jax.sweeps.scales import CPU, PAPER, SCALES, TINY
from stretchnas_jax.sweeps.spec import Experiment, Run
from stretchnas_jax.views import charts

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / 'experiments').glob('[tf]*[0-9]_*.py'))
EXPERIMENTS = [*NAMES, 'comparison_cifar10']
PROGRAMS = {'search': search, 'train': train}
CELL = zoo.GENOTYPES['DARTS_V2']


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


def experiment_of(name):
  return importlib.import_module(f'experiments.{name}').EXPERIMENT


def all_jobs(experiment, setting):
  return jobs.jobs_of(experiment, setting, list(experiment.runs))


def parsed(job):
  options = command_line.start_options(True, True) + PROGRAMS[job.program].OPTIONS
  return command_line.parse([job.program, *job.words], True, options, ())


def test_every_table_and_figure_is_there():
  kinds = [re.match('(table|figure)[0-9]', name)[0] for name in NAMES]
  assert kinds == [f'figure{i}' for i in (1, 3, 4, 5)] + [f'table{i}' for i in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize('scale', SCALES)
def test_every_command_of_every_experiment_is_valid(scale):
  known = set()
  for name in EXPERIMENTS:
    for job in all_jobs(experiment_of(name), setting_of(SCALES[scale])):
      same = [w for w in job.words if not re.match('--(workdir|genotype|seeds|config.seed)=', w)]
      if (key := (job.program, *same)) in known:
        continue
      known.add(key)
      args = parsed(job)
      if job.program == 'search':
        config_lib.validate(args.config, config_lib.search_config(), build.CHOICES)
        graph = build.search_objects(
          args.config, num_classes=10, image_shape=(32, 32, 3), num_steps=9
        ).net.space.graph
        assert graph.num_intermediate in (4, 6)
      else:
        train_plan.check_config(args.config)
        assert find_cell.target_of(getattr(args, 'target-params')) > 5e4
  assert len(known) > 20


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_what_a_command_needs_comes_before_it_and_folders_are_its_own(name):
  experiment, done, workdirs = experiment_of(name), set(), set()
  for scale, split in itertools.product(SCALES.values(), (False, True)):
    done.clear(), workdirs.clear()
    for job in all_jobs(experiment, setting_of(scale, split=split)):
      assert set(job.needs) <= done
      assert not set(job.folders) & done
      done |= set(job.folders)
      if split:
        assert len(job.folders) == 1
  for pair in experiment.comparisons:
    assert set(pair) <= experiment.runs.keys()


def sizes_of(config, cell, image_shape):
  return build.train_objects(
    config, cell, num_classes=10, image_shape=image_shape, steps_per_epoch=1
  ).sizes


def test_networks_come_within_five_percent_at_the_papers_size():
  for name, layers in ('DARTS_V2', 20), ('PDARTS', 8):
    target = 3.5e6
    config = config_lib.train_config()
    config.model.num_layers = layers
    feeds = types.SimpleNamespace(class_names=('',) * 10, image_shape=(32, 32, 3))
    config = train_plan.with_size(config, zoo.GENOTYPES[name], feeds, target)
    found = sizes_of(config, zoo.GENOTYPES[name], (32, 32, 3))
    assert abs(found.params / target - 1) < collect.CLOSE


def test_a_training_takes_its_size_from_the_wanted_number_of_parameters():
  words = ('--config=configs/train_digits.py', '--workdir=x', '--config.train.epochs=1')
  config = parsed(jobs.Job('train', words, ())).config
  sizes = []
  for channels in 14, 16, 18:
    config.model.channels = channels
    sizes.append(train_plan.plan_train(config, genotype=CELL).objects.sizes.params)
  plan = train_plan.plan_train(config, genotype=CELL, target_params=sizes[1] + 100)
  assert plan.config.model.channels == 16 and plan.objects.net.channels == 16
  assert plan.objects.sizes.params == sizes[1] and config.model.channels == 18


def test_the_stand_in_for_imagenet_fits_its_stem():
  job = next(job for job in all_jobs(experiment_of('table2_imagenet'), setting_of(TINY)))
  config = parsed(job).config
  assert config.model.stem == 'imagenet'
  assert sizes_of(config, CELL, (32, 32, 1)).params > 1e5


def test_epochs_of_a_search_keep_their_place():
  assert [jobs.scaled_epoch(epoch, TINY) for epoch in (20, 30, 40, 50)] == [8, 12, 16, 20]
  assert jobs.scaled_epoch(20, PAPER) == 20


def test_runs_that_are_equal_at_a_scale_are_made_once():
  table = experiment_of('table1_cifar10')
  folders = lambda run, scale: trials.trials(table, run, setting_of(scale, seeds=(0,)))[0]
  second, after = Run('a', 'darts_second', 20, 3.5), Run('b', 'darts_second@50', 20, 3.5)
  earlier = Run('c', 'darts_second@40', 20, 3.5)
  first = table.runs['darts_first']
  for scale in PAPER, TINY:
    assert folders(second, scale) == folders(after, scale) != folders(earlier, scale)
    assert (folders(second, scale) == folders(first, scale)) == (scale is TINY)
  title = lambda run, scale: collect.row_title(table, run, scale)
  assert title(second, TINY) == 'a [1st order here]' and title(second, PAPER) == 'a'
  assert title(first, TINY) == first.title
  for name in 'figure1_layers', 'figure4_layers':
    assert {'milenas_sc_8_at_8', 'milenas_sc_16_at_20'} <= experiment_of(name).runs.keys()


def test_one_random_cell_a_seed_is_not_chosen():
  setting = setting_of(CPU, seeds=(0, 4))
  found = jobs.jobs_of(SMALL_EXPERIMENT, setting, ['chance'])
  assert [word for job in found for word in job.words if word.startswith('--genotype')] == [
    '--genotype=random:0', '--genotype=random:4'
  ]  # fmt: skip
  assert not any(job.needs for job in found)


# ---- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'values, level, quantile',
  [
    ((1.0, 2.0, 4.0), 0.95, 4.3027),
    ((1.0, 2.0, 4.0), 0.8, 1.8856),
    ((3.1, 2.9, 3.4, 2.2, 2.8), 0.95, 2.7764),
    ((3.1, 2.9, 3.4, 2.2, 2.8), 0.8, 1.5332),
  ],
)
def test_intervals_use_the_quantiles_of_students_t(values, level, quantile):
  half_width = quantile * np.std(values, ddof=1) / len(values) ** 0.5
  expected = np.mean(values) - half_width, np.mean(values) + half_width
  found = statistics.interval_of_mean(values, level)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_three_equal_values_have_an_interval_of_no_width():
  assert statistics.summarize([2.0, 2.0, 2.0]) == (3, 2.0, 0.0, (2.0, 2.0))


def test_what_few_values_cannot_say_is_none():
  assert statistics.summarize([]) == (0, None, None, None)
  assert statistics.summarize([2.0]) == (1, 2.0, None, None)
  assert statistics.summarize([2.0, 4.0])[:3] == (2, 3.0, pytest.approx(2**0.5))


def test_differences_are_of_the_same_seeds():
  seeds, found = statistics.paired_difference({0: 3.0, 1: 5.0, 2: 9.0}, {2: 8.0, 1: 3.0, 7: 1.0})
  assert seeds == [1, 2] and found.n == 2 and found.mean == pytest.approx(1.5)
  assert found.interval == (1.0, 2.0)


# ---- results -------------------------------------------------------------------------------------


def test_the_table_says_what_was_run_and_what_was_not(tmp_path):
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
  assert (
    '| 2.70 ± 0.10 | 2.50 ± 0.71 | 2.00 .. 3.00 | 2 of 3 seeds | 2.00 (seed 1) |' in (lines['ours'])
  )
  assert '3.900 (up to 11 % off)' in lines['published'] and 'off' not in lines['ours']
  assert lines['random'].count('not run') == 2 and '| 2.50 | - |' in lines['of others']
  assert '+0.25' in lines['ours minus published']


def test_searches_are_told_with_their_history(tmp_path):
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


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_every_experiment_can_be_collected_and_drawn_before_it_is_run(name, tmp_path, capsys):
  pytest.importorskip('matplotlib')
  experiment = experiment_of(name)
  for verb in 'collect', 'plot':
    program.main(experiment, name, [name, verb, f'--folder={tmp_path}'])
  out = capsys.readouterr().out
  assert 'not run' in out
  text = (tmp_path / 'results' / f'{name}.svg').read_text()
  ET.fromstring(text)
  assert 'not run' in text
  assert json.loads((tmp_path / 'results' / f'{name}.json').read_text())['rows']


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


def test_a_plot_without_matplotlib_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(SystemExit) as stop:
    program.main(SMALL_EXPERIMENT, 'x', ['x', 'plot', f'--folder={tmp_path}'])
  assert stop.value.code == 2
  assert (
    capsys.readouterr().err == 'error: charts need matplotlib: pip install -e ".[experiments]"\n'
  )


# ---- the program ---------------------------------------------------------------------------------


def test_list_prints_commands_that_can_be_read(tmp_path, capsys):
  setting = canned(tmp_path)
  argv = ['x', 'list', '--scale=paper', f'--folder={tmp_path}', '--only=ours,zoo']
  program.main(SMALL_EXPERIMENT, 'x', argv)
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 5 and lines[-1].startswith('# finished: ')
  for line in lines:
    words = shlex.split(line.removeprefix('# finished: '))
    assert words[:2] == ['python', '-m']
    parsed(jobs.Job(words[2].removeprefix('stretchnas_jax.'), tuple(words[3:]), ()))
  third = next(line for line in lines if line.endswith('--config.model.num_layers=8')
               and '--config.seed=2' in line)  # fmt: skip
  assert f'--genotype={setting.folder}/searches/learned/seed_2' in third
  assert '--target-params=3.5e+06' in third


@pytest.mark.parametrize(
  'words, text',
  [
    (['fly'], "'fly' is not a verb; there are list, run, collect, plot, pack"),
    (['list', '--scale=huge'], "--scale is 'huge'; it must be one of paper, small, cpu, tiny"),
    (['list', '--only=nothing'], "--only has 'nothing'; the runs are other, ours"),
    (['list', '--seeds=a'], "--seeds is 'a'"),
    (['run', '--launcher=cloud'], "--launcher is 'cloud'; it must be local or slurm"),
    (['run', '--launcher=slurm'], r'needs submitit: pip install -e "\.\[experiments\]"'),
    (['run', '--launcher=slurm', '--slurm=gpu'], "--slurm has 'gpu'; it must be NAME=VALUE"),
    ([], 'VERB is missing'),
  ],
)
def test_wrong_words_are_named(words, text, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, 'submitit', None)
  with pytest.raises(SystemExit) as stop:
    program.main(SMALL_EXPERIMENT, 'x', ['x', *words])
  assert stop.value.code == 2 and re.search(text, capsys.readouterr().err)


class Stub:
  """In place of search and train: writes results, and notes what it was asked to do."""

  def __init__(self, monkeypatch, fails=''):
    self.calls, self.fails = [], fails
    for name, module in PROGRAMS.items():
      fake = types.SimpleNamespace(prepare=self.prepare, OPTIONS=module.OPTIONS)
      monkeypatch.setitem(running.PROGRAMS, name, fake)
    monkeypatch.setattr(running.jax, 'clear_caches', lambda: None)
    monkeypatch.setattr(running.gc, 'collect', lambda: None)

  def prepare(self, args):
    if self.fails and self.fails in str(args.workdir):
      raise ValueError('it fails')

    def work():
      self.calls.append(str(args.workdir))
      seeds = [f'seed_{seed}' for seed in args.seeds.split(',')] if args.seeds else ['']
      for seed in seeds:
        folder = args.workdir / seed
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'result.json').write_text('{}')

    return work


def test_run_skips_what_is_finished_and_does_the_rest_in_order(tmp_path, monkeypatch):
  canned(tmp_path)
  stub = Stub(monkeypatch)
  argv = ['x', 'run', '--scale=paper', f'--folder={tmp_path}']
  program.main(SMALL_EXPERIMENT, 'x', [*argv, '--only=ours,zoo'])
  relative = [os.path.relpath(path, tmp_path) for path in stub.calls]
  assert relative == ['searches/learned', 'trainings/learned-L8-3.5M/seed_2']
  program.main(SMALL_EXPERIMENT, 'x', [*argv, '--only=ours,zoo'])
  assert len(stub.calls) == 2
  program.main(SMALL_EXPERIMENT, 'x', [*argv, '--seeds=0'])
  assert len(stub.calls) == 2 + PAPER.candidates + 1


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
  stub = Stub(monkeypatch, fails='searches')
  with pytest.raises(SystemExit) as stop:
    program.main(
      SMALL_EXPERIMENT, 'x', ['x', 'run', f'--folder={tmp_path}', '--only=ours,zoo', '--seeds=3']
    )
  assert stop.value.code == 1
  assert [pathlib.Path(path).name for path in stub.calls] == ['DARTS_V2-L8-3.5M']
  assert capsys.readouterr().err.count('failed: python') == 2


def test_a_run_of_another_process_is_left_to_it(tmp_path):
  job = all_jobs(SMALL_EXPERIMENT, setting_of(TINY, tmp_path))[0]
  with running.lock(tmp_path / 'locks', job) as first:
    assert first
    with running.lock(tmp_path / 'locks', job) as second:
      assert not second
    assert not running.run_if_ready(job, [], tmp_path / 'locks')
  with running.lock(tmp_path / 'locks', job) as third:
    assert third


class Executor:
  """Of a Slurm that is not there."""

  def __init__(self):
    self.parameters, self.jobs = {}, []

  def update_parameters(self, **parameters):
    self.parameters |= parameters

  def submit(self, command):
    wanted = self.parameters['slurm_additional_parameters']
    self.jobs.append((command, wanted))
    return types.SimpleNamespace(job_id=str(100 + len(self.jobs)))


def test_jobs_of_a_cluster_wait_for_what_they_need(tmp_path):
  canned(tmp_path)
  setting = setting_of(PAPER, tmp_path, split=True)
  wanted = jobs.jobs_of(SMALL_EXPERIMENT, setting, ['ours'])
  executor = Executor()
  submitted = slurm.submit(executor, wanted)
  assert [number for number, _ in submitted] == ['101', '102']
  (first, nothing), (second, after) = executor.jobs
  assert (first.program, nothing) == ('search', {})
  assert (second.program, after) == ('train', {'dependency': 'afterok:101'})
  assert second.words == wanted[-1].words
  assert slurm.parameters_from('slurm_partition=gpu,gpus_per_node=1') == {
    'slurm_partition': 'gpu', 'gpus_per_node': 1
  }  # fmt: skip
