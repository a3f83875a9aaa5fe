"""A run keeps facts about its data and settings: changed ones are named, moved data are found."""

import json
import os
import re
import shutil

import helpers
import numpy as np
import pytest
from PIL import Image

from stretchnas_jax import run_search
from stretchnas_jax.data.batches import opening
from stretchnas_jax.data.datasets import fingerprints
from stretchnas_jax.machine import devices, facts
from stretchnas_jax.runs import fields, identity, json_files, record


@pytest.fixture
def images(tmp_path):
  """Returns class folders of different images, with a test part."""
  rng = np.random.default_rng(0)
  for part in 'train', 'test':
    for name in 'a', 'b', 'c':
      (tmp_path / 'data' / part / name).mkdir(parents=True)
      for k in range(8):
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'data' / part / name / f'{k}.png')
  return tmp_path / 'data'


def config_of(path, stream=False, **more):
  more = {'data.name': 'folder', 'data.path': str(path), 'data.fraction': 1.0} | more
  return helpers.tiny_search(**{'data.stream': stream, 'search.batch_size': 4} | more)


def fingerprint(path, stream=False):
  feeds = opening.open_search(config_of(path, stream))
  feeds.close()
  return json.loads(json.dumps(feeds.fingerprint))


def differences(before, now):
  return '; '.join(identity.data_differences(before, now))


def correct_a_label(path):
  (path / 'train/a/3.png').rename(path / 'train/b/9.png')


def rename_a_file(path):
  (path / 'train/a/0.png').rename(path / 'train/a/9.png')


def replace_an_image(path):
  before = os.stat(path / 'train/b/2.png')
  shutil.copy(path / 'test/a/0.png', path / 'train/b/2.png')
  os.utime(path / 'train/b/2.png', ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def exchange_class_folders(path):
  (path / 'train/a').rename(path / 'x')
  (path / 'train/c').rename(path / 'train/a')
  (path / 'x').rename(path / 'train/c')


def rename_a_class(path):
  for part in 'train', 'test':
    (path / part / 'c').rename(path / part / 'd')


def remove_images(path):
  for k in range(4):
    (path / f'train/c/{k}.png').unlink()


def remove_the_test_part(path):
  shutil.rmtree(path / 'test')


def change_a_test_image(path):
  Image.new('RGB', (8, 8), 'red').save(path / 'test/a/5.png')


@pytest.mark.parametrize('stream', [False, True])
@pytest.mark.parametrize(
  'change, words',
  [
    (correct_a_label, 'train: .*(labels|order|names)'),
    (rename_a_file, 'train: the (images are in another order|names of the files differ)'),
    (replace_an_image, 'train: the contents of the images differ'),
    (exchange_class_folders, 'train: the (images are in another order|sizes|contents)'),
    (rename_a_class, 'the classes are a, b, d, and were a, b, c'),
    (remove_images, 'train has 20 images, and had 24'),
    (remove_the_test_part, 'test is missing'),
    (change_a_test_image, 'test: the (contents of the images|sizes of the files) differ'),
  ],
)
def test_every_change_of_the_data_has_its_words(images, change, words, stream):
  before = fingerprint(images, stream)
  change(images)
  found = differences(before, fingerprint(images, stream))
  assert re.search(words, found), found


@pytest.mark.parametrize('stream', [False, True])
def test_a_moved_folder_has_the_same_fingerprint(images, tmp_path, stream, monkeypatch):
  before = fingerprint(images, stream)
  shutil.copytree(images, tmp_path / 'elsewhere' / 'x')
  monkeypatch.chdir(tmp_path / 'elsewhere')
  for path in (tmp_path / 'elsewhere' / 'x', 'x', 'x/', './../elsewhere/x'):
    assert not differences(before, fingerprint(path, stream))


def test_times_of_many_files_count_unless_the_user_says_otherwise(images, monkeypatch):
  few = fingerprint(images, True)
  assert 'contents' in few['train'] and 'times' not in few['train']
  monkeypatch.setattr(fingerprints, '_READ_AT_MOST', 100)
  before = fingerprint(images, True)
  os.utime(images / 'train/a/0.png', ns=(1, 1))
  now = fingerprint(images, True)
  assert differences(before, now) == 'train: the times of the files differ'
  assert not list(identity.data_differences(before, now, compare_times=False))
  known = {'data': before, 'jax': {}}
  with pytest.raises(fields.Refused, match='compare_times=False'):
    identity.check(images, known, known | {'data': now})
  identity.check(images, known, known | {'data': now}, compare_times=False)


def test_the_fingerprint_of_arrays_is_that_of_plain_loops():
  rng = np.random.default_rng(1)
  images = rng.integers(0, 256, (5, 3, 2, 1), np.uint8)
  labels = rng.integers(0, 3, 5)
  found = fingerprints.of_arrays(images, labels)
  order = [4, 2, 0, 1, 3]
  mixed = fingerprints.of_arrays(images[order], labels)
  assert {n for n in found if found[n] != mixed[n]} == {'contents'}
  assert found == fingerprints.of_arrays(np.asfortranarray(images), labels.astype(np.int32))
  for i in range(5):
    for at in np.ndindex(3, 2, 1):
      other = images.copy()
      other[i][at] ^= 1
      assert fingerprints.of_arrays(other, labels)['contents'] != found['contents']
    other = labels.copy()
    other[i] += 1
    assert fingerprints.of_arrays(images, other)['labels'] != found['labels']


def test_a_run_whose_data_moved_goes_on_and_one_whose_data_changed_does_not(images, tmp_path):
  own = {'space': helpers.SKIP_SPACE}
  run_search(config_of(images), tmp_path / 'run', parts=own, on_epoch=lambda line, _: True)
  moved = tmp_path / 'other'
  images.rename(moved)
  correct_a_label(moved)
  words = 'the data are not those that .*run was made with: .*train: the labels differ'
  with pytest.raises(fields.Refused, match=words):
    run_search(config_of(moved), tmp_path / 'run', parts=own)
  (moved / 'train/b/9.png').rename(moved / 'train/a/3.png')
  run_search(config_of(moved), tmp_path / 'run', parts=own)
  assert json_files.read_object(tmp_path / 'run/config.json')['data']['path'] == str(moved)
  assert [line['epoch'] for line in json_files.read_lines(tmp_path / 'run/metrics.jsonl')] == [1, 2]


def test_all_seeds_of_a_folder_have_the_same_data(images, tmp_path):
  own = {'space': helpers.SKIP_SPACE}
  config = config_of(images, **{'search.epochs': 1})

  def change(line, state):
    """Changes the data while the first of two seeds is at work."""
    correct_a_label(images)

  with pytest.raises(fields.Refused, match='train: the labels differ'):
    run_search(config, tmp_path / 'run', [0, 1], parts=own, on_epoch=change)
  with pytest.raises(fields.Refused, match='train: the labels differ'):
    run_search(config, tmp_path / 'run', [0, 1, 2], parts=own)


@pytest.mark.parametrize(
  'name, value', [('jax_default_prng_impl', 'rbg'), ('jax_threefry_partitionable', False)]
)
def test_settings_that_choose_random_bits_are_named(tmp_path, monkeypatch, name, value):
  before = identity.facts_of({})
  monkeypatch.setattr(facts, 'jax_settings', lambda: before['jax'] | {name: value})
  with pytest.raises(fields.Refused, match=f'{name}=.*set {name.upper()}='):
    identity.check(tmp_path, before, identity.facts_of({}))


def test_another_version_is_said_in_one_line():
  before = {'versions': {'jax': '0.9.1', 'numpy': '2.0.0'}, 'devices': ['cpu: cpu']}
  now = {'versions': dict.fromkeys(record.PACKAGES) | {'jax': '0.10.2', 'numpy': '2.0.0'}}
  now['devices'] = ['gpu: H100', 'gpu: H100']
  words = record.changes(before, now)
  assert 'jax 0.9.1 -> 0.10.2, devices 1 x cpu: cpu -> 2 x gpu: H100' in words
  assert not record.changes(now, now)


def test_processes_that_do_not_agree_are_named(monkeypatch):
  config = helpers.tiny_search()
  data = {'train': {'images': 8, 'labels': 'x'}}

  def told(fields_of_other, data_of_other):
    """Returns the sentence where process 1 has other values."""
    texts = []
    monkeypatch.setattr(devices, 'all_texts', lambda text: texts.append(text) or [text])
    identity.check_processes(fields_of_other, identity.facts_of(data_of_other))
    monkeypatch.setattr(devices, 'all_texts', lambda text: [text, *texts])
    with pytest.raises(identity.Disagreement) as error:
      identity.check_processes(config.to_dict(), identity.facts_of(data))
    assert error.value.exit_code == 2
    return str(error.value)

  other = helpers.tiny_search(**{'weights.learning_rate': 0.5}).to_dict()
  assert 'config.weights.learning_rate is 0.025 in process 0 and 0.5 in' in told(other, data)
  fewer = {'train': {'images': 7, 'labels': 'x'}}
  assert 'data.train.images is 8 in process 0 and 7 in process 1' in told(config.to_dict(), fewer)


def test_the_times_of_files_count_between_processes_unless_the_user_says_otherwise(monkeypatch):
  """Each host may have its own copy of the images."""
  texts = []
  monkeypatch.setattr(devices, 'all_texts', lambda text: texts.append(text) or texts)

  def check(times, compare_times):
    fields = helpers.tiny_search(**{'data.compare_times': compare_times}).to_dict()
    data = {'train': {'images': 8, 'times': times}}
    identity.check_processes(fields, identity.facts_of(data))

  check('x', compare_times=False)
  check('y', compare_times=False)
  texts.clear()
  check('x', compare_times=True)
  with pytest.raises(identity.Disagreement, match=r'data\.train\.times is .*compare_times=False'):
    check('y', compare_times=True)


def test_the_place_of_the_data_is_no_part_of_a_checkpoint():
  first, second = (identity.of_config({'data': {'path': path}}, ()) for path in ('x', 'y'))
  assert first['fields'] == second['fields']
  assert first['config'] != second['config']  # version 0.1 knew no fingerprint
