"""The images of a training: its parts, its feeds, and data without test images."""

import contextlib
import json

import numpy as np
import pytest
from helpers import tiny_search, tiny_training, write_classes

import stretchnas_jax
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype
from stretchnas_jax.data.batches import opening
from stretchnas_jax.data.datasets import splits
from stretchnas_jax.runs import (
  evaluation,
  json_files,
  report,
  train_plan,
)
from stretchnas_jax.runs.parts import Parts

EDGES = (('dil_conv_3x3', 0, 2), ('skip_connect', 1, 2), ('max_pool_3x3', 2, 3))
CELL = genotype.Genotype(EDGES, (2, 3), EDGES[:2], (2,))

pytestmark = pytest.mark.usefixtures('shared_programs')


def test_data_without_test_images_need_a_holdout_and_keep_their_classes(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  write_classes(tmp_path / 'two', ['a', 'b'])
  write_classes(tmp_path / 'three', ['a', 'b', 'c'])
  fields = {
    'data.name': 'folder', 'data.path': str(tmp_path / 'two'), 'data.fraction': 1.0,
    'train.batch_size': 4, 'train.epochs': 1,
  }  # fmt: skip
  with pytest.raises(ValueError, match='folder has no test images: set config.data.holdout'):
    train_plan.plan_train(tiny_training(**fields, **{'data.holdout': 0.0}), genotype=CELL)
  result = stretchnas_jax.run_train(tiny_training(**fields), tmp_path / 'run', CELL)
  assert result['test_accuracy'] is None and 0 <= result['last_val_accuracy'] <= 1
  other = tiny_training(**{**fields, 'data.path': str(tmp_path / 'three')})
  with pytest.raises(ValueError, match='folder has 3 classes; the run was made with 2'):
    evaluation.prepare_evaluation(tmp_path / 'run', other)
  (tmp_path / 'run' / 'result.json').unlink()  # as if it had been stopped
  write_classes(tmp_path / 'two', ['c'])
  with pytest.raises(ValueError, match='the classes are a, b, c, and were a, b'):
    stretchnas_jax.run_train(tiny_training(**fields), tmp_path / 'run', CELL)
  text = report.write(tmp_path / 'run', images=10).read_text()
  assert 'is not known here: the images here are not those of' in text


def test_the_top_5_accuracy_of_many_classes(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  names = [f'class_{i:02}' for i in range(12)]
  for part in 'train', 'test':
    write_classes(tmp_path / 'images' / part, names)
  fields = {
    'data.name': 'folder', 'data.path': str(tmp_path / 'images'), 'data.fraction': 1.0,
    'train.batch_size': 24, 'train.epochs': 1,
  }  # fmt: skip
  config = tiny_training(**fields)
  summary = stretchnas_jax.run_train(config, tmp_path / 'runs', CELL, seeds=(0,))
  (result,), run = summary['runs'], tmp_path / 'runs' / 'seed_0'
  files = [(name, path) for name in names for path in (tmp_path / 'images/test' / name).iterdir()]
  loaded = stretchnas_jax.load_trained(run)
  found = stretchnas_jax.predict(loaded, [path for _, path in files], top=5)
  right = np.mean([name in five for (name, _), five in zip(files, found.classes)])
  assert {len(set(five)) for five in found.classes} == {5} and 0 < right < 1
  assert result['test_top5_accuracy'] == summary['test_top5_accuracy'] == pytest.approx(right)
  assert result['test_top5_error_percent'] == pytest.approx(100 - 100 * right)
  (line,) = json_files.read_lines(run / 'metrics.jsonl')
  assert line['val_top5_accuracy'] >= line['val_accuracy']
  capsys.readouterr()
  evaluation.prepare_evaluation(run)()
  assert json.loads(capsys.readouterr().out)['test_top5_accuracy'] == result['test_top5_accuracy']
  with pytest.raises(ValueError, match='top is 13; there are 12 classes'):
    stretchnas_jax.predict(loaded, [], top=13)


@pytest.mark.parametrize(
  'stream, words',
  [
    (
      False,
      ['crop_scale is 0.5, which does nothing for images', 'jitter is 1, which does nothing'],
    ),
    (True, ['crop_padding is 1, which does nothing for a stream; it is for images in memory']),
  ],
)
def test_fields_that_do_nothing_are_said(tmp_path, monkeypatch, stream, words):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  write_classes(tmp_path / 'images', 'abc')
  fields = {'name': 'folder', 'path': str(tmp_path / 'images'), 'stream': stream}
  changed = {'crop_padding': 1, 'crop_scale': 0.5, 'jitter': 1.0}
  for config, opened in (
    (tiny_training(**{'train.batch_size': 2}), opening.open_training),
    (tiny_search(**{'search.batch_size': 2}), opening.open_search),
  ):
    config.data.update(fields | {'fraction': 1.0})
    usual = config_lib.train_config().data
    config.data.update({name: usual[name] for name in changed})
    with contextlib.closing(opened(config)) as feeds:
      assert not feeds.warnings
    config.data.update(changed)
    with contextlib.closing(opened(config)) as feeds:
      assert len(feeds.warnings) == len(words)
      for found, word in zip(feeds.warnings, words):
        assert found.startswith(f'config.data.{word}')


def test_a_training_with_arrays_is_not_measured_on_others(tmp_path, caplog, capsys):
  def measured(run, *data):
    capsys.readouterr()
    evaluation.prepare_evaluation(run, parts=Parts(data=data))()
    return json.loads(capsys.readouterr().out)

  random = np.random.default_rng(0)
  images, labels = random.integers(0, 256, (120, 8, 8, 1), np.uint8), np.arange(120) % 10
  config = tiny_training(**{'train.epochs': 1, 'train.batch_size': 8, 'data.fraction': 1.0})
  stretchnas_jax.run_train(config, tmp_path / 'run', CELL, data=(images, labels))
  assert measured(tmp_path / 'run', images, labels).keys() > {'val_accuracy'}
  # The hold-out is chosen by places, so that in another order most of it has trained.
  assert measured(tmp_path / 'run', images[::-1], labels[::-1]) == {'step': 10}
  assert 'may have trained on some of its images' in caplog.text
  text = report.write(tmp_path / 'run', images=10).read_text()
  assert 'is not known here: its images came from Python' in text
  assert not (tmp_path / 'run' / 'confusion.json').exists()


def test_chunks_of_an_epoch_are_one_order_however_they_are_cut():
  feed = train_plan.plan_train(tiny_training(), genotype=CELL).feeds.train
  whole = feed.chunk(1, 0, 3, 3)['train']
  assert len(np.unique(whole)) == 3 * 64
  parts = [feed.chunk(1, start, 1, 4)['train'] for start in range(3)]
  assert all(part.shape == (4, 64) and not part[1:].any() for part in parts)
  np.testing.assert_array_equal(whole, [part[0] for part in parts])
  assert (feed.chunk(0, 0, 3, 3)['train'] != whole).any()


@pytest.mark.parametrize('length', [1, 2, 50])
def test_an_evaluation_has_every_image_once_in_chunks_of_one_shape(length):
  val = train_plan.plan_train(tiny_training(), genotype=CELL).feeds.val
  chunks = list(val.chunks(length))
  assert len({part.shape for part, _ in chunks}) == 1 and chunks[0][0].shape[0] <= length
  rows = np.concatenate([part[valid > 0] for part, valid in chunks])
  assert len(rows) == val.count == len(np.unique(rows)) == 86


def test_what_trains_and_what_is_held_out_are_disjoint_and_balanced():
  labels = np.repeat(np.arange(4), 50)
  train_part, val = splits.hold_out(labels, fraction=0.5, holdout=0.2)
  assert (len(train_part), len(val)) == (80, 20) and not set(train_part) & set(val)
  assert np.bincount(labels[val]).tolist() == [5] * 4
  assert np.bincount(labels[train_part]).tolist() == [20] * 4
