"""The program of an experiment: its commands, the runs that it starts, jobs of a cluster."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import types

import pytest
from helpers import ROOT
from small_experiment import SMALL_EXPERIMENT, canned, parsed_job, setting_of

from stretchnas_jax import search, train
from stretchnas_jax.sweeps import jobs, program, running, slurm
from stretchnas_jax.sweeps.scales import PAPER, TINY

PROGRAMS = {'search': search, 'train': train}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


def test_list_prints_commands_that_can_be_read(tmp_path, capsys):
  setting = canned(tmp_path)
  argv = ['x', 'list', '--scale=paper', f'--folder={tmp_path}', '--only=ours,zoo']
  program.main(SMALL_EXPERIMENT, argv)
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 5 and lines[-1].startswith('# finished: ')
  for line in lines:
    words = shlex.split(line.removeprefix('# finished: '))
    assert words[:2] == ['python', '-m']
    parsed_job(jobs.Job(words[2].removeprefix('stretchnas_jax.'), tuple(words[3:]), ()))
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
    program.main(SMALL_EXPERIMENT, ['x', *words])
  assert stop.value.code == 2 and re.search(text, capsys.readouterr().err)


def test_a_folder_below_home_is_found_where_the_runs_are(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('HOME', str(tmp_path))
  canned(tmp_path / 'runs')
  words = ['--scale=paper', '--folder=~/runs', '--only=zoo']
  program.main(SMALL_EXPERIMENT, ['x', 'list', *words])
  line = capsys.readouterr().out
  assert line.startswith('# finished: ') and f'--workdir={tmp_path}/runs/' in line
  program.main(SMALL_EXPERIMENT, ['x', 'collect', *words, '--out=~/out'])
  assert (tmp_path / 'out' / 'x.md').exists()


class Stub:
  """Stands for search and train: it writes results, and notes the runs that it is asked for."""

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


def test_run_skips_finished_runs_and_does_the_rest_in_order(tmp_path, monkeypatch):
  canned(tmp_path)
  stub = Stub(monkeypatch)
  argv = ['x', 'run', '--scale=paper', f'--folder={tmp_path}']
  program.main(SMALL_EXPERIMENT, [*argv, '--only=ours,zoo'])
  relative = [os.path.relpath(path, tmp_path) for path in stub.calls]
  assert relative == ['searches/learned', 'trainings/learned-L8-3.5M/seed_2']
  program.main(SMALL_EXPERIMENT, [*argv, '--only=ours,zoo'])
  assert len(stub.calls) == 2
  program.main(SMALL_EXPERIMENT, [*argv, '--seeds=0'])
  assert len(stub.calls) == 2 + PAPER.candidates + 1


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
  stub = Stub(monkeypatch, fails='searches')
  with pytest.raises(SystemExit) as stop:
    program.main(
      SMALL_EXPERIMENT, ['x', 'run', f'--folder={tmp_path}', '--only=ours,zoo', '--seeds=3']
    )
  assert stop.value.code == 1
  assert [pathlib.Path(path).name for path in stub.calls] == ['DARTS_V2-L8-3.5M']
  assert capsys.readouterr().err.count('failed: python') == 2


def test_a_run_of_another_process_is_not_started(tmp_path):
  job = jobs.jobs_of(SMALL_EXPERIMENT, setting_of(TINY, tmp_path), ['ours'])[0]
  with running.lock(tmp_path / 'locks', job) as first:
    assert first
    with running.lock(tmp_path / 'locks', job) as second:
      assert not second
    assert not running.run_if_ready(job, [], tmp_path / 'locks')
  with running.lock(tmp_path / 'locks', job) as third:
    assert third


class Executor:
  """Stands for the executor of a Slurm that is not there."""

  def __init__(self):
    self.parameters, self.jobs = {}, []

  def update_parameters(self, **parameters):
    self.parameters |= parameters

  def submit(self, command):
    wanted = self.parameters['slurm_additional_parameters']
    self.jobs.append((command, wanted))
    return types.SimpleNamespace(job_id=str(100 + len(self.jobs)))


def test_jobs_of_a_cluster_wait_for_the_jobs_that_they_need(tmp_path):
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


PREEMPTED = """
import os, signal, subprocess, sys, types
from stretchnas_jax.sweeps import slurm

sys.modules['submitit'] = types.SimpleNamespace(
  helpers=types.SimpleNamespace(DelayedSubmission=lambda again: again)
)
start = subprocess.Popen

def started(command):
  child = start(['sleep', '100'])
  signal.setitimer(signal.ITIMER_REAL, 0.3)
  return child

subprocess.Popen = started
command = slurm.Command('search', ['--config=digits'])

def handler(number, frame):
  again = command.checkpoint()
  os.kill(command._child.pid, 0)  # it has ended, and `wait` has not yet read its code
  print(again.program, *again.words)
  sys.exit(7)

signal.signal(signal.SIGALRM, handler)
command()
"""


def test_a_preempted_job_ends_its_run_and_asks_for_its_continuation():
  """submitit calls `checkpoint` from a handler, above the call that waits for the run."""
  found = subprocess.run(
    [sys.executable, '-c', PREEMPTED], capture_output=True, text=True, timeout=60, cwd=ROOT
  )
  assert (found.returncode, found.stdout) == (7, 'search --config=digits\n'), found.stderr
