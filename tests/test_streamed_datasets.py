"""Tests of data sets that are streamed: class folders, ImageNet, and the feeds of their parts."""

import contextlib
import io
import os

import numpy as np
import pytest
from image_streams import NAMES, PLAIN, closed_feeds, color, load, make_tree, numbers_of
from PIL import Image

from stretchnas_jax.data.batches import feeds, order, stream_supply
from stretchnas_jax.data.datasets import encoded, splits


@pytest.fixture
def tree(tmp_path):
  return make_tree(tmp_path / 'set')


@pytest.fixture
def make():
  with closed_feeds() as make:
    yield make


# ---- data sets and their parts -------------------------------------------------------------------


def test_class_folders(tree):
  data = load(tree)
  assert data.name == 'folder' and data.class_names == tuple(NAMES)
  np.testing.assert_array_equal(data.train.labels, np.repeat([0, 1, 2], 7))
  assert data.train.labels.dtype == np.int32
  assert data.train.name(8) == os.path.join(tree, 'train', 'bee', '1.png')
  assert len(data.test.labels) == 5
  assert encoded.load('imagenet2012', path=str(tree)).class_names == tuple(NAMES)
  assert encoded.load('folder', path=str(tree / 'train')).test is None


def test_validation_images_are_a_part_and_of_imagenet_they_are_the_test_images(tree):
  (tree / 'test').rename(tree / 'valid')
  data = load(tree)
  assert data.test is None and len(data.val.labels) == 5
  assert data.val.names[0] == 'valid/ant/0.png'
  joined, appended = data.with_validation_in_training()
  assert appended == 5 and joined.val is None and len(joined.train_labels) == 26
  assert joined.train.name(21) == os.path.join(tree, 'valid', 'ant', '0.png')
  assert joined.train.open(20) == data.train.open(20) and joined.train.open(25) == data.val.open(4)
  imagenet = encoded.load('imagenet2012', path=str(tree))
  assert imagenet.val is None and len(imagenet.test.labels) == 5


def test_alpha_and_beta_learn_from_the_validation_images(tree):
  (tree / 'test').rename(tree / 'val')
  data, count = load(tree).with_validation_in_training()
  parts = splits.search_parts(data.train_labels, split='three_way', num_validation=count)
  supply = stream_supply.StreamSupply(data, 2, PLAIN, seed=0)
  with contextlib.closing(feeds.search_feeds(supply, parts)) as opened:
    assert opened.sizes == {'train': 21, 'val_alpha': 3, 'val_beta': 2}
    chunk = opened.train.chunk(0, 0, 2, 2)
    assert numbers_of(chunk['train'].images).max() < 21
    assert min(numbers_of(chunk[part].images).min() for part in ('val_alpha', 'val_beta')) >= 21
    assert opened.warnings[0].startswith("class 'cat' has no image in val_alpha and val_beta; it ")


@pytest.mark.parametrize(
  'arguments, words',
  [
    ({'name': 'cifar10'}, "'cifar10'; streamed it can be one of imagenet2012, folder"),
    ({'name': 'folder'}, 'data.path is missing'),
    ({'name': 'folder', 'path': 'nowhere'}, "'nowhere'; there is no such folder"),
    ({'name': 'imagenet2012', 'path': 'nowhere'}, "'nowhere'; there is no such folder"),
  ],
)
def test_load_names_the_mistake(arguments, words):
  with pytest.raises((ValueError, OSError), match=words):
    encoded.load(**arguments)


def test_feeds_of_a_search_on_a_fraction(tree):
  data = load(tree)
  parts = splits.search_parts(data.train.labels, split='three_way', fraction=6 / 7)
  supply = stream_supply.StreamSupply(data, 3, PLAIN, seed=0)
  with contextlib.closing(feeds.search_feeds(supply, parts)) as opened:
    assert opened.image_shape == (6, 6, 3) and opened.test is None
    assert opened.sizes == {'train': 6, 'val_alpha': 6, 'val_beta': 6}
    chunk = opened.train.chunk(0, 0, 2, 2)
    for field, part in parts._asdict().items():
      found = numbers_of(chunk[field].images)
      np.testing.assert_array_equal(np.sort(found.ravel()), part)
      assert (np.bincount(chunk[field].labels.ravel()) == 2).all()
    assert opened.val.count == 12
  two = splits.search_parts(data.train.labels, split='two_way')
  with contextlib.closing(feeds.search_feeds(supply, two)) as opened:
    assert set(opened.sizes) == {'train', 'val_alpha'}


def test_feeds_of_a_training_with_a_holdout(tree):
  data = load(tree)
  supply = stream_supply.StreamSupply(data, 3, PLAIN, seed=0)
  with contextlib.closing(feeds.train_feeds(supply, fraction=1.0, holdout=2 / 7)) as opened:
    assert opened.sizes == {'train': 15, 'val': 6, 'test': 5}
    found = numbers_of(opened.train.chunk(0, 0, 5, 5)['train'].images)
    held_out = numbers_of(next(opened.val.chunks(9))[0].images)
    assert sorted([*found.ravel(), *held_out.ravel()]) == list(range(21))
  with contextlib.closing(feeds.train_feeds(supply, fraction=1.0, holdout=0.0)) as opened:
    assert opened.val is None and opened.sizes == {'train': 21, 'test': 5}


# ---- TFDS ----------------------------------------------------------------------------------------


def jpeg(number):
  file = io.BytesIO()
  Image.new('RGB', (20, 16), color(number)).save(file, 'JPEG', quality=100, subsampling=0)
  return file.getvalue()


def prepare(folder, labels):
  """Prepares ImageNet as TFDS does, with a few labels."""
  import tensorflow_datasets as tfds
  from array_record.python.array_record_module import ArrayRecordWriter

  builder = tfds.builder('imagenet2012', data_dir=folder, file_format='array_record')
  os.makedirs(builder.data_dir)
  infos = []
  for split, found in labels.items():
    template = tfds.core.ShardedFileTemplate(
      dataset_name='imagenet2012', split=split, filetype_suffix='array_record',
      data_dir=builder.data_dir,
    )  # fmt: skip
    (path,) = template.sharded_filepaths(num_shards=1)
    writer = ArrayRecordWriter(os.fspath(path), 'group_size:1')
    for i, label in enumerate(found):
      example = {'image': io.BytesIO(jpeg(i)), 'label': label, 'file_name': f'{i}.JPEG'}
      writer.write(builder.info.features.serialize_example(example))
    writer.close()
    info = tfds.core.SplitInfo(
      name=split, shard_lengths=[len(found)], num_bytes=0, filename_template=template
    )
    infos.append(info)
  builder.info.set_splits(tfds.core.SplitDict(infos))
  builder.info.write_to_directory(builder.data_dir)
  return path


def test_imagenet_from_tfds(tmp_path, make, monkeypatch):
  prepare(tmp_path, {'train': [7, 7, 999, 0, 0, 3], 'validation': [3, 7]})
  data = encoded.load('imagenet2012', path=str(tmp_path), cache=tmp_path / 'cache')
  assert len(data.class_names) == 1000 and data.class_names[0] == 'n01440764'
  assert list(data.class_names) == sorted(data.class_names)
  np.testing.assert_array_equal(data.train.labels, [7, 7, 999, 0, 0, 3])
  np.testing.assert_array_equal(data.test.labels, [3, 7])
  chunk = make(data.train, 2).chunk(0, 0, 3, 3)['train']
  batches = order.epoch_indices(np.arange(6), 2, 3, seed=0, epoch=0, stream='train')
  np.testing.assert_array_equal(chunk.labels, data.train.labels[batches])
  wanted = np.array([color(number) for number in range(6)])[batches]
  np.testing.assert_allclose(chunk.images.mean(axis=(2, 3)), wanted, atol=2)
  monkeypatch.setattr(
    'stretchnas_jax.data.datasets.tfds._read_labels', None
  )  # the cache holds them
  again = encoded.load('imagenet2012', path=str(tmp_path), cache=tmp_path / 'cache')
  np.testing.assert_array_equal(again.train.labels, data.train.labels)


def test_a_record_that_is_not_an_image_is_named(tmp_path, make, monkeypatch):
  monkeypatch.setattr('test_streamed_datasets.jpeg', lambda number: b'broken')
  prepare(tmp_path, {'train': [7, 8], 'validation': [3]})
  data = encoded.load('imagenet2012', path=str(tmp_path), cache=tmp_path / 'cache')
  with pytest.raises(ValueError, match=r'record [01] of imagenet2012 \(train\) is not a readable'):
    make(data.train, 2).chunk(0, 0, 1, 1)


def test_imagenet_that_is_not_prepared_is_named(tmp_path):
  (tmp_path / 'imagenet2012').mkdir()
  with pytest.raises(FileNotFoundError, match='not prepared .*--file_format=array_record'):
    encoded.load('imagenet2012', path=str(tmp_path))
  prepare(tmp_path / 'other', {'train': [7, 8]})
  with pytest.raises(FileNotFoundError, match="without its split 'validation'"):
    encoded.load('imagenet2012', path=str(tmp_path / 'other'), cache=tmp_path / 'cache')
