"""Runs that begin with the weights of another run, and workdirs that cannot keep a run."""

import os
import pathlib
import shutil

import helpers
import jax
import numpy as np
import pytest

from stretchnas_jax import run_search, run_train
from stretchnas_jax.runs import checkpoint, fields, json_files, loop, trained, workdir

OWN = {'space': helpers.SKIP_SPACE}

pytestmark = pytest.mark.usefixtures('shared_programs')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """Returns the folder of a finished search, which many runs begin with."""
  path = tmp_path_factory.mktemp('source') / 'run'
  run_search(helpers.tiny_search(**{'search.epochs': 1}), path, parts=OWN)
  return path


def first_states(monkeypatch):
  """Returns a list that gets the position before the first step of each run from now on."""
  seen, restore = [], loop.Loop.restore
  monkeypatch.setattr(
    loop.Loop,
    'restore',
    lambda self, position, like=None: (
      seen.append(jax.device_get(position)) or restore(self, position, like)
    ),
  )
  return seen


def test_a_search_begins_with_the_weights_and_scores_of_another(source, tmp_path, monkeypatch):
  seen = first_states(monkeypatch)
  config = helpers.tiny_search(**{'seed': 5})
  own = trained.read_run(source, parts=OWN)
  run_search(config, tmp_path / 'new', parts=OWN, start_from=source)
  run_search(config, tmp_path / 'plain', parts=OWN)
  state, plain = seen[0].state, seen[1].state
  for taken in ('params', 'batch_stats', 'arch'):
    jax.tree.map(np.testing.assert_array_equal, getattr(state, taken), getattr(own.state, taken))
  for fresh in ('step', 'weights_opt', 'alpha_opt', 'beta_opt'):
    jax.tree.map(np.testing.assert_array_equal, getattr(state, fresh), getattr(plain, fresh))
  kept = json_files.read_object(tmp_path / 'new' / 'config.json')['start_from']
  assert kept['run'] == str(source) and kept['step'] > 0
  assert trained.read_run(tmp_path / 'new', parts=OWN).step > 0


def test_a_run_with_a_source_resumes_bit_for_bit_even_when_the_source_is_gone(source, tmp_path):
  config, copy = helpers.tiny_search(**{'seed': 6}), tmp_path / 'source'
  shutil.copytree(source, copy)
  run_search(config, tmp_path / 'whole', parts=OWN, start_from=copy)
  stop = lambda line, state: True
  run_search(config, tmp_path / 'run', parts=OWN, start_from=copy, on_epoch=stop)
  with pytest.raises(fields.Refused, match='start_from'):
    run_search(config, tmp_path / 'run', parts=OWN)
  copy.rename(tmp_path / 'away')
  run_search(config, tmp_path / 'run', parts=OWN, start_from=copy)
  whole, run = (helpers.without_clock(tmp_path / n / 'metrics.jsonl') for n in ('whole', 'run'))
  assert whole == run


def test_seeds_with_a_source_resume_when_it_has_trained_on_and_when_it_is_gone(tmp_path):
  source, away, stop = tmp_path / 'source', tmp_path / 'away', lambda line, state: True
  run_search(helpers.tiny_search(**{'seed': 7}), source, parts=OWN, on_epoch=stop)

  def begin(name, **more):
    given = {'parts': OWN, 'start_from': source, **more}
    return run_search(helpers.tiny_search(), tmp_path / name, (0, 1), **given)

  begin('whole')
  begin('run', on_epoch=stop)  # after an epoch of seed 0
  run_search(helpers.tiny_search(**{'seed': 7}), source, parts=OWN)
  source.rename(away)
  with pytest.raises(ValueError, match='seed_1 has no checkpoint yet, .*source is not a run'):
    begin('run')
  away.rename(source)
  begin('run', on_epoch=stop)  # after an epoch of seed 1
  source.rename(away)
  assert begin('run') is not None
  for seed in 'seed_0', 'seed_1':
    paths = (tmp_path / name / seed / 'metrics.jsonl' for name in ('whole', 'run'))
    whole, run = map(helpers.without_clock, paths)
    assert whole == run


def test_sources_that_cannot_be_used_are_named(source, tmp_path):
  config = helpers.tiny_search()
  with pytest.raises(ValueError, match='start_from is empty; give the folder of a run'):
    run_search(config, tmp_path / 'x', parts=OWN, start_from='')
  with pytest.raises(ValueError, match='which is the workdir; it needs a new workdir'):
    run_search(config, source, parts=OWN, start_from=source)
  with pytest.raises(FileNotFoundError, match='is not a run'):
    run_search(config, tmp_path / 'x', parts=OWN, start_from=tmp_path)
  with pytest.raises(ValueError, match='which is a search; it must be of the same kind'):
    run_train(
      helpers.tiny_training(), tmp_path / 'x', helpers.TINY_CELL, parts=OWN, start_from=source
    )
  wider = helpers.tiny_search(**{'model.channels': 4})
  with pytest.raises(ValueError, match=r'float32\[.*both runs need the same network'):
    run_search(wider, tmp_path / 'y', parts=OWN, start_from=source)


def test_a_refused_resumption_with_more_epochs_says_how_to_go_on(source):
  with pytest.raises(fields.Refused, match=f'new workdir with --start-from={source}'):
    run_search(helpers.tiny_search(**{'search.epochs': 3}), source, parts=OWN)


@pytest.mark.parametrize('name', ['x[1]', 'a*b[c]'])
def test_a_workdir_that_keeps_no_checkpoint_is_refused_before_the_first_step(tmp_path, name):
  config = helpers.tiny_search()
  with pytest.raises(checkpoint.SaveFailed, match='no checkpoint can be saved in .*another'):
    run_search(config, tmp_path / name, parts=OWN)
  assert not [path for path in (tmp_path / name).iterdir() if path.name.startswith('.part-')]


@pytest.mark.parametrize('name', ['ümlaut', 'a b', '%41', '{a}', 'x?'])
def test_other_names_keep_checkpoints(tmp_path, name):
  (tmp_path / name).mkdir()
  checkpoint.try_place(tmp_path / name)
  assert not os.listdir(tmp_path / name)


def test_the_home_has_its_short_name(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert workdir.absolute('~/runs/a') == tmp_path / 'runs/a'
  assert workdir.absolute(pathlib.Path('x')) == pathlib.Path.cwd() / 'x'


def test_a_workdir_among_the_images_is_refused(tmp_path):
  helpers.write_classes(tmp_path / 'images', 'abc')
  config = helpers.tiny_search(**{'data.name': 'folder', 'data.path': str(tmp_path / 'images')})
  (tmp_path / 'link').symlink_to(tmp_path / 'images')
  for inside in ('images', 'images/a/run', 'link/new'):
    with pytest.raises(fields.Refused, match='lies inside the images'):
      run_search(config, tmp_path / inside)
  assert not (tmp_path / 'images' / 'new').exists()


def test_damaged_checkpoints_behind_a_link_are_set_aside(tmp_path, monkeypatch):
  """`checkpoints` is a link to another file system, where a plain rename does not work."""
  real = tmp_path / 'real'
  with checkpoint.Checkpoints(real) as saved:
    for step in (1, 2):
      saved.save(step, {'x': np.float32([step])})
      saved.wait()
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'checkpoints').symlink_to(real)
  (real / '2' / 'meta' / 'metadata').write_text('{}')
  rename = os.rename

  def other_file_system(a, b, **more):
    if pathlib.Path(a).resolve().parent == real != pathlib.Path(b).resolve().parent:
      raise OSError(18, 'Invalid cross-device link')
    return rename(a, b, **more)

  monkeypatch.setattr(os, 'rename', other_file_system)
  with checkpoint.Checkpoints(tmp_path / 'run' / 'checkpoints') as saved:
    step, state, _ = saved.restore_latest({'x': np.float32([0])})
  assert step == 1 and state['x'][0] == 1
  assert (tmp_path / 'run' / 'checkpoints-set-aside' / '2.0' / 'meta').is_dir()
  shutil.rmtree(real)
  with pytest.raises(FileNotFoundError, match='is a link to a folder that is not there'):
    checkpoint.Checkpoints(tmp_path / 'run' / 'checkpoints')
