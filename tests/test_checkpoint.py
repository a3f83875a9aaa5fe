"""Checkpoints: exact, checked, and never lost without a word."""

import logging
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from small_checkpoints import assert_same, data_file, make_state, saved

from stretchnas_jax.runs import checkpoint
from stretchnas_jax.runs.checkpoint import store

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'

# orbax leaves coroutines behind when it meets damage; nobody has awaited them.
pytestmark = [
  pytest.mark.usefixtures('garbage_collected'),
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
]


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
  """A folder `c` with the checkpoints 1, 2 and 3, each of `make_state(step)`."""
  return saved(tmp_path_factory.mktemp('originals') / 'c', [1, 2, 3])


@pytest.fixture
def three(originals, tmp_path):
  """A copy of the originals, which a test may damage."""
  shutil.copytree(originals, tmp_path / 'c')
  shutil.copyfile(originals.with_name('c.json'), tmp_path / 'c.json')
  return tmp_path / 'c'


def test_a_state_returns_bit_for_bit_with_its_meta(three):
  with checkpoint.Checkpoints(three) as manager:
    step, state, meta = manager.restore_latest(make_state(9))
    assert (step, meta) == (3, {'step': 3, 'note': 'x'})
    assert_same(state, make_state(3))
    assert next(manager.metas(), None) == (3, meta)
  drawn = jax.random.uniform(state.key[0])
  assert drawn == jax.random.uniform(make_state(3).key[0])


def test_orbax_lays_a_checkpoint_out_as_the_store_expects(three):
  """`store.NEEDED` and the syncing of a save rest on this; orbax promises it nowhere."""
  names = {str(path.relative_to(three / '3')) for path in (three / '3').rglob('*')}
  data = {name for name in names if re.fullmatch(r'state/(ocdbt.process_0/)?d/\w+', name)}
  assert data
  assert names - data == {
    '_CHECKPOINT_METADATA', 'commit_success.txt', 'meta', 'meta/commit_success.txt',
    'meta/metadata', 'state', 'state/_METADATA', 'state/commit_success.txt', 'state/d',
    'state/manifest.ocdbt', 'state/ocdbt.process_0', 'state/ocdbt.process_0/d',
    'state/ocdbt.process_0/manifest.ocdbt',
  }  # fmt: skip


@pytest.mark.parametrize('name', store.NEEDED)
def test_a_checkpoint_without_one_of_its_files_gives_no_other_numbers(three, name):
  (three / '3' / name).unlink()
  with checkpoint.Checkpoints(three) as manager:
    step, state, _ = manager.restore_latest(make_state(9))
  assert step == 2 or name == 'state/_METADATA'  # orbax does without this one
  assert_same(state, make_state(step))


def test_no_checkpoints_is_no_error(tmp_path):
  with checkpoint.Checkpoints(tmp_path / 'c') as manager:
    assert manager.restore_latest(make_state()) is None
    assert next(manager.metas(), None) is None


def test_only_the_newest_are_kept(tmp_path):
  saved(tmp_path / 'c', range(1, 5), keep=2)
  with checkpoint.Checkpoints(tmp_path / 'c') as manager:
    assert manager.steps() == [4, 3]


def test_checkpoints_of_given_steps_stay_beside_the_newest(tmp_path):
  path = tmp_path / 'c'
  for steps in (range(1, 4), range(4, 8)):  # the second time from a new process
    with checkpoint.Checkpoints(path, 2, stay=[2, 6]) as manager:
      for step in steps:
        manager.save(step, make_state(step), {'step': step})
  with checkpoint.Checkpoints(path, read_only=True) as manager:
    assert manager.steps() == [7, 6, 2]
    step, state, meta = manager.restore(2, make_state(0), {})
    assert (step, meta['step']) == (2, 2)
    assert_same(state, make_state(2))
    with pytest.raises(checkpoint.Unusable, match='checkpoint 6 is of another run: only'):
      manager.restore(6, {'other': jnp.zeros(3)}, {})


def test_a_state_may_be_donated_once_save_returns(tmp_path):
  state = {'x': jnp.arange(1000.0)}
  with checkpoint.Checkpoints(tmp_path / 'c') as manager:
    manager.save(1, state)
    for _ in range(5):
      state = jax.jit(lambda s: {'x': s['x'] + 1}, donate_argnums=0)(state)
    manager.close()
  with checkpoint.Checkpoints(tmp_path / 'c') as manager:
    np.testing.assert_array_equal(manager.restore_latest(state)[1]['x'], np.arange(1000.0))


def test_leaves_go_where_those_of_like_are(three):
  mesh = Mesh(np.array(jax.devices()), ('batch',))
  placed = jax.device_put(make_state(5), NamedSharding(mesh, PartitionSpec()))
  shapes = jax.eval_shape(lambda: make_state(5))
  with checkpoint.Checkpoints(three) as manager:
    state = manager.restore_latest(placed)[1]
    plain = manager.restore_latest(shapes)[1]
  assert_same(state, make_state(3))
  assert_same(plain, make_state(3))
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.device_set == set(jax.devices())
  for leaf in jax.tree.leaves(plain):
    assert leaf.sharding.device_set == {jax.devices()[0]}


@pytest.mark.parametrize('damage', ['flip', 'truncate', 'remove', 'meta', 'state'])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(three, damage, caplog):
  path = three
  for step in (2, 3):
    target = data_file(path, step)
    if damage == 'flip':
      data = bytearray(target.read_bytes())
      # A bit here and there: some of them are in the numbers of a leaf.
      for i in range(len(data) // 4, len(data), 64):
        data[i] ^= 1
      target.write_bytes(data)
    elif damage == 'truncate':
      target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    elif damage == 'remove':
      target.unlink()
    elif damage == 'meta':
      (path / str(step) / 'meta' / 'metadata').write_text('{"content": {"meta": {}, "leaves"')
    else:
      shutil.rmtree(path / str(step) / 'state')
  with caplog.at_level(logging.WARNING), checkpoint.Checkpoints(path) as manager:
    step, state, _ = manager.restore_latest(make_state(9))
    assert step == 1
    assert_same(state, make_state(1))
    assert 'checkpoint 3 is damaged' in caplog.text
    assert 'checkpoint 2 is damaged' in caplog.text
    # The damaged ones no longer stand in the way.
    manager.save(2, make_state(2))
    manager.close()
  with checkpoint.Checkpoints(path) as manager:
    assert manager.steps() == [2, 1]


def test_a_changed_text_in_the_description_is_noticed(three):
  file = three / '3' / 'meta' / 'metadata'
  assert '"note":"x"' in (text := file.read_text().replace(' ', ''))
  file.write_text(text.replace('"note":"x"', '"note":"y"'))
  with checkpoint.Checkpoints(three) as manager:
    assert next(manager.metas(), None) == (2, {'step': 2, 'note': 'x'})


def test_where_none_can_be_read_it_is_an_error_and_nothing_is_deleted(three):
  for step in (1, 2, 3):
    data_file(three, step).unlink()
  with checkpoint.Checkpoints(three) as manager:
    with pytest.raises(ValueError, match=r'none of the checkpoints in .*\[3, 2, 1\]'):
      manager.restore_latest(make_state())
    assert manager.steps() == [3, 2, 1]


@pytest.mark.parametrize(
  'change, message',
  [
    (
      lambda p: p | {'kernel': jnp.zeros((40, 60))},
      r"'kernel'\] is float32\[40, 50\] there, and .*60\]",
    ),
    (
      lambda p: p | {'kernel': jnp.zeros((40, 50), jnp.float16)},
      r'float32\[40, 50\] there, and float16',
    ),
    (lambda p: p | {'new': jnp.zeros(2)}, r"only this run has \.params\['new'\]"),
    (lambda p: {'kernel': p['kernel']}, r'only the checkpoint has \.params'),
  ],
)
def test_another_state_is_a_clear_error_and_no_damage(originals, change, message):
  like = make_state()
  with checkpoint.Checkpoints(originals) as manager:
    with pytest.raises(ValueError, match=message):
      manager.restore_latest(like._replace(params=change(like.params)))
    assert manager.steps() == [3, 2, 1]


def test_a_step_that_is_there_cannot_be_saved_again(originals):
  manager = checkpoint.Checkpoints(originals, keep=10)
  with manager, pytest.raises(ValueError, match='step 2.* step 3'):
    manager.save(2, make_state())


def test_a_run_whose_checkpoints_are_all_gone_does_not_start_again(three):
  shutil.rmtree(three)
  manager, message = checkpoint.Checkpoints(three), 'checkpoint of step 3 was saved .* has none now'
  with manager, pytest.raises(ValueError, match=message):
    manager.restore_latest(make_state())
  three.with_name('c.json').unlink()
  with checkpoint.Checkpoints(three) as manager:
    assert manager.restore_latest(make_state()) is None


def test_a_newest_checkpoint_that_is_gone_is_named(three, caplog):
  shutil.rmtree(three / '3')
  with checkpoint.Checkpoints(three) as manager:
    assert manager.restore_latest(make_state())[0] == 2
  assert 'checkpoint 3 was saved, and is not there any more' in caplog.text


def test_checkpoints_of_other_runs_are_set_aside_and_not_used(tmp_path, caplog):
  own, other = {'identity': {'config': 'a'}}, {'identity': {'config': 'b'}}
  for name, meta in (('c', own), ('d', other)):
    with checkpoint.Checkpoints(tmp_path / name) as manager:
      for step in (1, 2, 3):
        manager.save(step, make_state(step), meta)
  path = tmp_path / 'c'
  shutil.rmtree(path / '3')
  shutil.copytree(tmp_path / 'd' / '3', path / '3')
  shutil.copytree(path / '1', path / '4')  # an older one of its own
  with checkpoint.Checkpoints(path) as manager:
    step, state, _ = manager.restore_latest(make_state(9), own['identity'])
    assert step == 2 and manager.steps() == [2, 1]
    assert_same(state, make_state(2))
    manager.save(3, make_state(3), own)
  assert 'checkpoint 4 is another one: it was saved as that of step 1' in caplog.text
  assert 'checkpoint 3 is of a run with another config' in caplog.text
  assert {p.name for p in (tmp_path / 'c-set-aside').iterdir()} == {'3.0', '4.0'}
  with checkpoint.Checkpoints(tmp_path / 'd') as manager:
    with pytest.raises(ValueError, match='checkpoint 3 is of a run with another config'):
      manager.restore_latest(make_state(9), own['identity'])
    assert manager.steps() == [3, 2, 1]


def test_an_error_inside_is_not_hidden_by_one_of_closing(tmp_path, monkeypatch, caplog):
  with pytest.raises(KeyError), checkpoint.Checkpoints(tmp_path / 'c') as manager:
    monkeypatch.setattr(manager._store._manager, 'check_for_errors', lambda: 1 / 0)
    raise KeyError('first')
  assert 'the last checkpoint was not saved' in caplog.text


def test_checkpoints_of_earlier_versions_still_load(tmp_path):
  shutil.copytree(FIXTURES / 'checkpoints_0_1', tmp_path / 'c')
  like = {
    'kernel': jnp.zeros((2, 3)), 'half': jnp.zeros(3, jnp.bfloat16), 'key': jax.random.key(0),
    'none': jnp.zeros((0, 2)),
  }  # fmt: skip
  with checkpoint.Checkpoints(tmp_path / 'c') as manager:
    step, state, meta = manager.restore_latest(like, {'config': 'new', 'class_names': ['a', 'b']})
    manager.save(6, state)
  assert step == 5 and meta['seconds'] == 1.5
  expected = like | {
    'kernel': (np.arange(6, dtype=np.float32) * np.float32(1 / 7)).reshape(2, 3),
    'half': jnp.arange(3, dtype=jnp.bfloat16), 'key': jax.random.key(3),
  }  # fmt: skip
  assert_same(state, expected)
