"""A small experiment with some of its results, for the tests of sweeps."""

import json
import pathlib
import types
from typing import Any

from stretchnas_jax import search, train
from stretchnas_jax.cli import command_line
from stretchnas_jax.sweeps.jobs import Job
from stretchnas_jax.sweeps.scales import PAPER, Scale
from stretchnas_jax.sweeps.spec import Experiment, Paper, Run, Search
from stretchnas_jax.sweeps.trials import Setting, trials

_PROGRAMS = {'search': search, 'train': train}
GENOTYPE = json.loads(json.dumps({
  'normal': [['sep_conv_3x3', 0, 2], ['skip_connect', 2, 3]], 'normal_concat': [2, 3],
  'reduce': [['sep_conv_3x3', 0, 2]], 'reduce_concat': [2],
}))  # fmt: skip
SMALL_EXPERIMENT = Experiment(
  'A small table',
  {'learned': Search('configs/darts_sc_cifar10.py', 8)},
  {
    'other': Run('of others', paper=Paper(2.5)),
    'ours': Run('ours', 'learned', 8, 3.5, Paper(2.7, 0.1, 1.8, 337, 0.6)),
    'zoo': Run('published', 'DARTS_V2', 8, 3.5),
    'chance': Run('random', 'random', 8, 3.5),
  },
  (('ours', 'zoo'),),
)


def parsed_job(job: Job) -> types.SimpleNamespace:
  """Returns the values of a job's command line, as its program reads them."""
  options = command_line.start_options(True, True) + _PROGRAMS[job.program].OPTIONS
  return command_line.parse([job.program, *job.words], True, options, ())


def setting_of(
  scale: Scale,
  folder: str | pathlib.Path = 'runs/x',
  seeds: tuple[int, ...] = (0, 1, 2),
  **more: Any,
) -> Setting:
  """Returns a setting with this scale, this folder and these seeds."""
  return Setting(scale, pathlib.Path(folder), seeds, **more)


def finish(folder: pathlib.Path, **result: Any) -> None:
  """Writes the files that a finished run with this result leaves in its folder."""
  folder.mkdir(parents=True)
  facts = {'versions': {'jax': '1'}, 'machine': {'cpu': 'x', 'cores': 2}, 'devices': ['cpu: cpu']}
  (folder / 'run.json').write_text(json.dumps(facts | {'git_commit': 'abc'}))
  (folder / 'config.json').write_text(json.dumps({'seed': 0, 'genotype': GENOTYPE}))
  (folder / 'result.json').write_text(json.dumps({'genotype': GENOTYPE, 'seed': 0} | result))
  lines = [{'epoch': i, 'penalty': r, 'none_weight_mean': 0.2, 'none_weight_max': i / 4}
           for i, r in enumerate((0.0, 0.25, 0.0), 1)]  # fmt: skip
  (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')


def canned(folder: pathlib.Path) -> Setting:
  """Writes results: two seeds of three of `ours`, all of `zoo`, none of `chance`."""
  setting = setting_of(PAPER, folder)
  sizes = {'channels': 36, 'num_layers': 8, 'macs': 4e8, 'flops_ptflops': 5e8, 'seconds': 7200}
  runs = SMALL_EXPERIMENT.runs
  for trial, error in zip(trials(SMALL_EXPERIMENT, runs['ours'], setting), (3.0, 2.0)):
    finish(trial.search, seconds=3600, val_accuracy=0.9, penalty=0.0)
    finish(trial.training, test_error_percent=error, params=3.6e6, **sizes)
  for trial, error in zip(trials(SMALL_EXPERIMENT, runs['zoo'], setting), (2.5, 2.0, 3.0)):
    finish(trial.training, test_error_percent=error, params=3.9e6, **sizes)
  return setting
