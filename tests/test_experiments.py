"""The experiments of the paper: their commands are valid, and equal runs are made once."""

import importlib
import itertools
import json
import re
import types
import xml.etree.ElementTree as ET

import pytest
from helpers import ROOT
from small_experiment import SMALL_EXPERIMENT, parsed_job, setting_of

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import zoo
from stretchnas_jax.runs import build, find_cell, train_plan
from stretchnas_jax.sweeps import collect, jobs, program, trials
from stretchnas_jax.sweeps.scales import CPU, PAPER, SCALES, TINY
from stretchnas_jax.sweeps.spec import Run

NAMES = sorted(path.stem for path in (ROOT / 'experiments').glob('[tf]*[0-9]_*.py'))
EXPERIMENTS = [*NAMES, 'comparison_cifar10']
CELL = zoo.GENOTYPES['DARTS_V2']


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


def experiment_of(name):
  return importlib.import_module(f'experiments.{name}').EXPERIMENT


def all_jobs(experiment, setting):
  return jobs.jobs_of(experiment, setting, list(experiment.runs))


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
      args = parsed_job(job)
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
def test_jobs_stand_behind_the_jobs_that_they_need(name):
  experiment, done = experiment_of(name), set()
  for scale, split in itertools.product(SCALES.values(), (False, True)):
    done.clear()
    for job in all_jobs(experiment, setting_of(scale, split=split)):
      assert set(job.needs) <= done
      assert not set(job.folders) & done
      done |= set(job.folders)
      if split:  # each seed has a folder to itself, which no other job locks
        (folder,) = job.folders
        assert f'--workdir={folder}' in job.words
        seed = folder.name if folder.name.startswith('seed_') else folder.parent.name
        assert f'--config.seed={seed.removeprefix("seed_")}' in job.words
        assert not any(word.startswith('--seeds=') for word in job.words)
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
  config = parsed_job(jobs.Job('train', words, ())).config
  sizes = []
  for channels in 14, 16, 18:
    config.model.channels = channels
    sizes.append(train_plan.plan_train(config, genotype=CELL).objects.sizes.params)
  plan = train_plan.plan_train(config, genotype=CELL, target_params=sizes[1] + 100.0)
  assert plan.config.model.channels == 16 and plan.objects.net.channels == 16
  assert plan.objects.sizes.params == sizes[1] and config.model.channels == 18


def test_the_stand_in_for_imagenet_fits_its_stem():
  job = next(job for job in all_jobs(experiment_of('table2_imagenet'), setting_of(TINY)))
  config = parsed_job(job).config
  assert config.model.stem == 'imagenet'
  assert sizes_of(config, CELL, (32, 32, 1)).params > 1e5


def test_epochs_of_the_paper_are_mapped_to_a_scale():
  assert [jobs.scaled_epoch(epoch, TINY) for epoch in (20, 30, 40, 50)] == [8, 12, 16, 20]
  assert jobs.scaled_epoch(20, PAPER) == 20


def test_runs_that_are_equal_at_a_scale_are_made_once():
  table = experiment_of('table1_cifar10')

  def folders(run, scale):
    return trials.trials(table, run, setting_of(scale, seeds=(0,)))[0]

  second, after = Run('a', 'darts_second', 20, 3.5), Run('b', 'darts_second@50', 20, 3.5)
  earlier = Run('c', 'darts_second@40', 20, 3.5)
  first = table.runs['darts_first']
  for scale in PAPER, TINY:
    assert folders(second, scale) == folders(after, scale) != folders(earlier, scale)
    assert (folders(second, scale) == folders(first, scale)) == (scale is TINY)
  assert collect.row_title(table, second, TINY) == 'a [1st order here]'
  assert collect.row_title(table, second, PAPER) == 'a'
  assert collect.row_title(table, first, TINY) == first.title
  for name in 'figure1_layers', 'figure4_layers':
    assert {'milenas_sc_8_at_8', 'milenas_sc_16_at_20'} <= experiment_of(name).runs.keys()


def test_one_random_cell_a_seed_is_not_chosen():
  setting = setting_of(CPU, seeds=(0, 4))
  found = jobs.jobs_of(SMALL_EXPERIMENT, setting, ['chance'])
  assert [word for job in found for word in job.words if word.startswith('--genotype')] == [
    '--genotype=random:0', '--genotype=random:4'
  ]  # fmt: skip
  assert not any(job.needs for job in found)


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_every_experiment_can_be_collected_and_drawn_before_it_is_run(name, tmp_path, capsys):
  pytest.importorskip('matplotlib')
  experiment = experiment_of(name)
  for verb in 'collect', 'plot':
    program.main(experiment, [name, verb, f'--folder={tmp_path}'])
  out = capsys.readouterr().out
  assert 'not run' in out
  text = (tmp_path / 'results' / f'{name}.svg').read_text()
  ET.fromstring(text)
  assert 'not run' in text
  assert json.loads((tmp_path / 'results' / f'{name}.json').read_text())['rows']
