"""Runs of several seeds beside each other: each is the run of its seed on one device."""

import json
import os
import shutil
import signal

import image_folders
import jax
import pytest
import shared_programs as programs
from helpers import SKIP_SPACE, tiny_search, without_clock

import stretchnas_jax
from stretchnas_jax.data.datasets import fingerprints
from stretchnas_jax.machine import stopping
from stretchnas_jax.runs import dry_run, runner, search_task, seed_runs, seeds
from stretchnas_jax.runs import loop as loop_lib
from stretchnas_jax.runs.task import Programs

pytestmark = pytest.mark.usefixtures('shared_programs')

FILES = ('metrics.jsonl', 'genotypes.jsonl', 'scores.jsonl')
SEEDS = (2, 0, 1)
OWN = {'space': SKIP_SPACE}  # it compiles fast


def left_by(folder):
  """What a search leaves, without the clock."""
  result = json.loads((folder / 'result.json').read_text())
  found = {name: without_clock(folder / name) for name in FILES}
  return found | {'result': {k: v for k, v in result.items() if k != 'seconds'}}


def search(folder, **options):
  return stretchnas_jax.run_search(tiny_search(), folder, seeds=SEEDS, parts=OWN, **options)


def assert_as_alone(folder, alone):
  for seed in SEEDS:
    assert left_by(folder / f'seed_{seed}') == left_by(alone / str(seed))
    assert (folder / f'seed_{seed}' / 'report.html').exists()


@pytest.fixture(scope='module')
def alone(tmp_path_factory, shared_programs):
  """The searches of all seeds, each alone on one device."""
  place = tmp_path_factory.mktemp('alone')
  for seed in SEEDS:
    stretchnas_jax.run_search(tiny_search(seed=seed), place / str(seed), parts=OWN)
  return place


@pytest.fixture(scope='module')
def together(tmp_path_factory, alone):
  """The folder of all seeds beside each other, and the names of the programs that compiled."""
  names, place = [], tmp_path_factory.mktemp('together')

  def listen(event, seconds, fun_name='', **_):
    if event == '/jax/core/compile/backend_compile_duration':
      names.append(fun_name)

  jax.monitoring.register_event_duration_secs_listener(listen)
  with programs.nothing_compiled():
    search(place)
  jax.monitoring.unregister_event_duration_listener(listen)
  return place, names


def test_each_seed_has_the_bits_of_its_run_alone(together, alone):
  folder, _ = together
  assert_as_alone(folder, alone)
  summary = json.loads((folder / 'result.json').read_text())
  assert [run['seed'] for run in summary['runs']] == list(SEEDS) and summary['n'] == 3
  assert (folder / 'report.html').exists()


def test_a_dry_run_names_the_files_of_a_search(together):
  folder, _ = together
  left = {path.name for path in (folder / 'seed_0').iterdir() if not path.name.startswith('.')}
  assert left == {name.rstrip('/') for name in dry_run._FILES} | {'parts.json'}


def test_seeds_that_stop_at_epochs_of_their_own_have_a_mean():
  results = [{'epochs': n, 'supernet_params': 7, 'seconds': 1.0} for n in (3, 5, 4)]
  found = seeds.summary((0, 1, 2), results, ('epochs', 'supernet_params'))
  assert (found['epochs'], found['epochs_std']) == (4.0, 1.0)
  assert found['supernet_params'] == 7 and 'supernet_params_std' not in found
  alone = seeds.summary((0,), results[:1], ('epochs',))
  assert alone['epochs'] == 3 and isinstance(alone['epochs'], int) and 'epochs_std' not in alone


@pytest.mark.parametrize('seed', [-1, 2**32, 2**64])
def test_a_seed_that_jax_would_cut_is_refused_before_the_folder_is_made(tmp_path, seed):
  with pytest.raises(ValueError, match='it must be a whole number from 0 to 4294967295'):
    stretchnas_jax.run_search(tiny_search(), tmp_path / 'run', seeds=(0, seed))
  with pytest.raises(ValueError, match='must be'):
    seeds.parse(f'0,{seed}')
  assert not (tmp_path / 'run').exists()


def test_the_seed_of_a_config_has_32_bits(tmp_path):
  with pytest.raises(ValueError, match='config.seed is 4294967296; it must be a whole number from'):
    stretchnas_jax.run_search(tiny_search(seed=2**32), tmp_path / 'run')


def test_all_seeds_compile_once(together):
  _, names = together
  assert sum('_run_step' in name for name in names) == 1, names
  # The evaluation, and the two programs of the first position.
  assert sum(name in ('run', 'jit(run)', 'jit_run') for name in names) <= 3, names


@pytest.mark.parametrize('how', ['signal', pytest.param('death', marks=pytest.mark.long)])
def test_seeds_that_were_stopped_go_on_bit_for_bit(how, alone, together, tmp_path, monkeypatch):
  advance = loop_lib.Loop.advance

  def advance_and_end(self, work, end_epoch):
    if self.step and how == 'death':
      raise SystemError('lost')  # nothing is saved after this step
    stopped = advance(self, work, end_epoch)
    if how == 'signal' and self._request.number is None:
      os.kill(os.getpid(), signal.SIGTERM)
    return stopped

  with monkeypatch.context() as patch:
    patch.setattr(loop_lib.Loop, 'advance', advance_and_end)
    with pytest.raises(stopping.Stopped if how == 'signal' else SystemError) as error:
      search(tmp_path / 'run')
  assert getattr(error.value, 'exit_code', 143) == 143
  assert not (tmp_path / 'run' / 'result.json').exists()
  search(tmp_path / 'run')
  assert_as_alone(tmp_path / 'run', alone)


def test_a_seed_that_fails_leaves_the_others_at_work(alone, together, tmp_path, capfd):
  folder = tmp_path / 'run'
  (folder / 'seed_0').mkdir(parents=True)
  (folder / 'seed_0' / 'notes.txt').write_text('of somebody')
  folder_of_all, _ = together
  shutil.copy(folder_of_all / 'config.json', folder)
  with pytest.raises(ValueError, match='seed_0 is not empty'):
    search(folder)
  said = capfd.readouterr().err
  assert 'seed 0: failed, and the others go on: workdir' in said
  assert 'seed 1: begins on ' in said and 'seed 2:     epoch' in said
  for seed in (1, 2):
    assert left_by(folder / f'seed_{seed}') == left_by(alone / str(seed))
  shutil.rmtree(folder / 'seed_0')
  search(folder)
  assert_as_alone(folder, alone)


def test_with_on_epoch_or_in_turn_one_seed_follows_the_other(alone, tmp_path):
  assert search(tmp_path / 'run', on_epoch=lambda line, state: True) is None
  assert sorted(path.name for path in (tmp_path / 'run').glob('seed_*')) == ['seed_2']
  # The rest may run beside each other: where a run works is no part of it.
  search(tmp_path / 'run')
  assert_as_alone(tmp_path / 'run', alone)


def test_the_config_says_whether_seeds_are_beside_each_other(tmp_path):
  def devices_of(seeds, **fields):
    runs = seed_runs.prepare(
      runner.Runner(search_task.SEARCH), tiny_search(**fields), tmp_path / 'run', seeds
    ).__self__  # fmt: skip
    runs.folder.close()
    shutil.rmtree(tmp_path / 'run')
    return [place.devices[0] for place in runs.places]

  assert devices_of(SEEDS) == jax.devices()[:3]
  assert not devices_of([1])
  assert not devices_of(SEEDS, **{'parallel.seeds': 'in_turn'})


@pytest.mark.parametrize('compare_times', [False, True])
def test_times_of_images_may_change_between_seeds_if_they_do_not_count(
  compare_times, tmp_path, monkeypatch
):
  images = tmp_path / 'images'
  for number in range(24):
    image_folders.save(images / 'ab'[number % 2] / f'{number}.png', (number, 2, 3))
  fields = {'name': 'folder', 'path': str(images), 'fraction': 1.0, 'stream': True}
  fields['compare_times'] = compare_times
  config = tiny_search(**{f'data.{name}': value for name, value in fields.items()})
  monkeypatch.setattr(fingerprints, '_READ_AT_MOST', 0)  # of many files only the times are taken
  monkeypatch.setattr(runner.Runner, 'run', lambda self, plan, *_: {'seed': plan.config.seed})
  task = runner.Runner(search_task.SEARCH, on_epoch=print)  # one seed after the other
  runs = seed_runs.prepare(task, config, tmp_path / 'run', (0, 1)).__self__
  unused = Programs(print, print, {}, {})
  for file in images.rglob('*.png'):
    os.utime(file, (1, 1))
  with runs.folder:
    if compare_times:
      with pytest.raises(ValueError, match='the times of the files differ'):
        runs._run(1, None, unused)
    else:
      assert runs._run(1, None, unused) == {'seed': 1}
