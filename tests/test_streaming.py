"""Tests of streams: their batches, their evaluation, and images that cannot be read."""

import contextlib
import functools
import io
import itertools
import os
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from stretchnas_jax.data.batches import (
  augment,
  color_jitter,
  crops,
  feeds,
  order,
  stream_batches,
  streaming,
)
from stretchnas_jax.data.datasets import encoded, encoded_images, splits

PLAIN = stream_batches.Options(image_size=6, workers=2, jitter=None)
NAMES = ['ant', 'bee', 'cat']


def color(number):
  """Returns the colour of an image, so that any crop of it tells its number."""
  return number + 1, 255 - number, 128


def save(file, pixels):
  file.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(file)


@pytest.fixture
def tree(tmp_path):
  """Makes 3 classes of 7 training images of one colour each, and 3 + 2 + 0 test images."""
  number = itertools.count()
  for part, counts in ('train', (7, 7, 7)), ('test', (3, 2, 0)):
    for name, count in zip(NAMES, counts):
      for i in range(count):
        file = tmp_path / 'set' / part / name / f'{i}.png'
        save(file, np.full((12, 10, 3), color(next(number)), np.uint8))
  return tmp_path / 'set'


@pytest.fixture
def noisy(tmp_path):
  """Makes 2 classes of 10 images in which every crop differs."""
  random = np.random.default_rng(0)
  for i in range(20):
    pixels = random.integers(0, 256, (9 + i, 14, 3), np.uint8)
    save(tmp_path / 'noisy' / f'class {i % 2}' / f'{i}.png', pixels)
  return encoded.load('folder', path=str(tmp_path / 'noisy')).train


@pytest.fixture
def make():
  """Returns a function that makes feeds; they are closed after the test."""
  with contextlib.ExitStack() as stack:

    def make(images, batch_size=4, options=PLAIN, *, parts=None, seed=0):
      parts = parts or {'train': np.arange(len(images.labels))}
      feed = streaming.StreamFeed(images, parts, batch_size, options, seed=seed)
      return stack.enter_context(contextlib.closing(feed))

    yield make


@pytest.fixture
def opened(monkeypatch):
  """Returns a list to which each opened image is added."""
  kind = encoded_images.Files
  found, real = [], kind.open
  monkeypatch.setattr(kind, 'open', lambda self, i: found.append(i) or real(self, i))
  return found


def load(tree):
  return encoded.load('folder', path=str(tree))


def numbers_of(pixels):
  """Returns the numbers of images of one colour from their crops `[..., S, S, 3]`."""
  assert (pixels == pixels[..., :1, :1, :]).all()
  return pixels[..., 0, 0, 0].astype(int) - 1


def equal(a, b):
  return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


# ---- batches ------------------------------------------------------------------------------------


def test_an_epoch_has_every_image_once(tree, make):
  feed = make(load(tree).train, 4)
  assert feed.data == () and feed.steps_per_epoch == 5
  chunk = feed.chunk(0, 0, 5, 7)['train']
  assert chunk.images.shape == (7, 4, 6, 6, 3) and chunk.images.dtype == np.uint8
  assert chunk.labels.shape == (7, 4) and chunk.labels.dtype == np.int32
  found = numbers_of(chunk.images[:5])
  assert len(np.unique(found)) == 20
  np.testing.assert_array_equal(chunk.labels[:5], found // 7)
  assert not chunk.images[5:].any() and not chunk.labels[5:].any()
  other = numbers_of(feed.chunk(1, 0, 5, 5)['train'].images)
  assert not np.array_equal(found, other)


def test_the_order_is_the_same_as_in_memory(tree, make):
  feed = make(load(tree).train, 4, seed=3)
  batches = order.epoch_indices(np.arange(21), 4, 5, seed=3, epoch=2, stream='train')
  found = numbers_of(feed.chunk(2, 1, 2, 2)['train'].images)
  np.testing.assert_array_equal(found, batches[1:3])


def test_each_image_is_cropped_by_its_own_random_numbers(noisy, make):
  chunk = make(noisy, 4, seed=5).chunk(1, 2, 1, 1)['train']
  batches = order.epoch_indices(np.arange(20), 4, 5, seed=5, epoch=1, stream='train')
  draws = crops.random_numbers(4, seed=5, stream='train', epoch=1, step=2)
  for pixels, number, chance in zip(chunk.images[0], batches[2], draws):
    wanted = crops.read_random(
      noisy.open(int(number)), chance, 6, name='x', scale=PLAIN.scale, ratio=PLAIN.ratio, flip=True
    )
    np.testing.assert_array_equal(pixels, wanted)


def test_batches_depend_neither_on_workers_nor_on_the_size_of_chunks(noisy, make):
  fields = {'train': np.arange(12), 'val_alpha': np.arange(12, 20)}
  one = make(noisy, 4, PLAIN._replace(workers=1), parts=fields)
  whole = one.chunk(0, 0, 3, 3)
  following = one.chunk(1, 0, 1, 1)
  many = make(noisy, 4, PLAIN._replace(workers=5), parts=fields)
  pieces = [many.chunk(0, t, 1, 2) for t in range(3)]
  for t, piece in enumerate(pieces):
    for field in fields:
      for got, wanted in zip(piece[field], whole[field]):
        np.testing.assert_array_equal(got[0], wanted[t])
  assert equal(following, many.chunk(1, 0, 1, 1))
  assert not equal(whole, make(noisy, 4, parts=fields, seed=1).chunk(0, 0, 3, 3))


def test_resuming_reads_no_earlier_image(noisy, make, opened):
  through = make(noisy)
  chunks = [through.chunk(*divmod(step, 5), 1, 1) for step in range(9)]
  through.close()
  opened.clear()
  resumed = make(noisy)
  assert equal(resumed.chunk(1, 3, 1, 1), chunks[8])
  resumed.close()
  assert len(opened) <= 8  # the batch, and the next one
  batches = order.epoch_indices(np.arange(20), 4, 5, seed=0, epoch=1, stream='train')
  assert set(opened) <= set(batches[3:5].ravel().tolist())


def test_only_one_chunk_is_read_ahead(noisy, make, opened):
  feed = make(noisy, 2)
  feed.chunk(0, 0, 1, 3)
  feed.close()
  assert len(opened) <= 2 * (1 + 3)


def test_the_shares_of_several_processes_make_up_the_batch(noisy, make):
  whole = make(noisy, 6).chunk(0, 1, 2, 2)['train']
  parts = [
    make(noisy, 6, PLAIN._replace(process=(i, 3))).chunk(0, 1, 2, 2)['train'] for i in range(3)
  ]
  joined = jax.tree.map(lambda *rows: np.concatenate(rows, axis=1), *parts)
  assert equal(joined, whole)
  with pytest.raises(ValueError, match='batch size is 6; it must be a multiple of the 4 processes'):
    make(noisy, 6, PLAIN._replace(process=(0, 4)))


def test_closing_ends_all_threads(noisy, make):
  threads = lambda: [t for t in threading.enumerate() if t.name.startswith('decode')]
  feed = make(noisy)
  feed.chunk(0, 0, 1, 4)
  assert threads()
  feed.close()
  assert not threads()


# ---- examples -----------------------------------------------------------------------------------


def test_examples_are_normalised(noisy, make, key):
  options = PLAIN._replace(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
  feed = make(noisy, options=options)
  batch = jax.tree.map(lambda x: x[0], feed.chunk(0, 0, 1, 1)['train'])
  examples = jax.jit(feed.examples)(feed.data, batch, key, np.arange(4))
  wanted = (batch.images / 255 - options.mean) / options.std
  np.testing.assert_allclose(examples.images, wanted, atol=1e-5)
  np.testing.assert_array_equal(examples.labels, batch.labels)


def test_colours_change_before_examples_are_normalised(noisy, make, key):
  feed = make(noisy, options=stream_batches.Options(image_size=6, workers=1))
  batch = jax.tree.map(lambda x: x[0], feed.chunk(0, 0, 1, 1)['train'])
  place = np.arange(8, 12)
  examples = jax.jit(feed.examples)((), batch, key, place)
  strengths = color_jitter.Strengths(0.4, 0.4, 0.4, 0.2)
  jitter = jax.jit(functools.partial(color_jitter.color_jitter, strengths=strengths))
  colors = jitter(key, batch.images, place)
  wanted = (np.asarray(colors) - stream_batches.IMAGENET_MEAN) / stream_batches.IMAGENET_STD
  np.testing.assert_allclose(examples.images, wanted, atol=1e-4)
  plain = augment.normalize(batch.images, stream_batches.IMAGENET_MEAN, stream_batches.IMAGENET_STD)
  assert np.abs(np.asarray(examples.images - plain)).max() > 0.1


# ---- evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize('batch_size, length', [(2, 2), (4, 1), (5, 9), (8, 1)])
def test_evaluation_has_every_image_once(tree, batch_size, length):
  data = load(tree)
  with contextlib.closing(
    streaming.StreamEvaluation(data.test, np.arange(5), batch_size, PLAIN)
  ) as feed:
    assert feed.count == 5
    for _ in range(2):
      chunks = list(feed.chunks(length))
      assert len({part.images.shape for part, _ in chunks}) == 1
      parts = jax.tree.map(lambda *x: np.concatenate(x), *[part for part, _ in chunks])
      valid = np.concatenate([valid for _, valid in chunks])
      assert valid.shape == parts.labels.shape and valid.dtype == np.float32
      np.testing.assert_array_equal(numbers_of(parts.images[valid == 1]), range(21, 26))
      np.testing.assert_array_equal(parts.labels[valid == 1], [0, 0, 0, 1, 1])
    images = feed.examples((), jax.tree.map(lambda x: x[0], parts)).images
    wanted = (parts.images[0] / 255 - PLAIN.mean) / PLAIN.std
    np.testing.assert_allclose(images, wanted, atol=1e-5)


def test_evaluation_shows_the_centre(noisy):
  with contextlib.closing(streaming.StreamEvaluation(noisy, np.array([3, 7]), 2, PLAIN)) as feed:
    ((part, _),) = feed.chunks(1)
  for pixels, number in zip(part.images[0], [3, 7]):
    np.testing.assert_array_equal(pixels, crops.read_center(noisy.open(int(number)), 6, name='x'))


def test_processes_share_an_evaluation(noisy):
  joined = []
  for i in range(2):
    options = PLAIN._replace(process=(i, 2))
    with contextlib.closing(streaming.StreamEvaluation(noisy, np.arange(5), 4, options)) as feed:
      ((part, valid),) = feed.chunks(2)
      joined.append((part, valid))
  with contextlib.closing(streaming.StreamEvaluation(noisy, np.arange(5), 4, PLAIN)) as feed:
    (whole,) = feed.chunks(2)
  assert equal(jax.tree.map(lambda *rows: np.concatenate(rows, axis=1), *joined), whole)


# ---- broken images ------------------------------------------------------------------------------


def break_image(images, number):
  with open(images.paths[number], 'r+b') as file:
    file.truncate(45)


def test_a_truncated_image_stops_the_stream_and_is_named(tree, make):
  images = load(tree).train
  break_image(images, 9)
  feed = make(images, 3)
  with pytest.raises(
    ValueError, match=r"bee/2.png is not a .*data.on_bad_image to 'skip' to go on"
  ):
    feed.chunk(0, 0, 7, 7)


def test_a_truncated_image_is_replaced_by_the_next_of_its_class(tree, make, caplog):
  images = load(tree).train
  for number in 9, 10, 13:
    break_image(images, number)
  part = np.delete(np.arange(21), 11)
  options = PLAIN._replace(on_bad_image='skip')
  feed = make(images, 4, options, parts={'train': part})
  batches = order.epoch_indices(part, 4, 5, seed=0, epoch=0, stream='train')
  chunk = feed.chunk(0, 0, 5, 5)['train']
  instead = {9: 12, 10: 12, 13: 7}  # image 11 has the same class, but is in another part
  wanted = [[instead.get(number, number) for number in row] for row in batches.tolist()]
  np.testing.assert_array_equal(numbers_of(chunk.images), wanted)
  np.testing.assert_array_equal(chunk.labels, batches // 7)
  feed.chunk(1, 0, 5, 5)
  assert feed.bad_images == 3
  assert sorted(r.getMessage().split(' is not')[0][-9:] for r in caplog.records) == [
    'bee/2.png', 'bee/3.png', 'bee/6.png',
  ]  # fmt: skip


def test_a_class_of_broken_images_is_named(tree, make):
  images = load(tree).train
  for number in range(7, 14):
    break_image(images, number)
  feed = make(images, 4, PLAIN._replace(on_bad_image='skip'))
  with pytest.raises(ValueError, match='bee.* and neither is any other image of its class'):
    feed.chunk(0, 0, 5, 5)


def test_a_broken_test_image_does_not_count(tree, caplog):
  test = load(tree).test
  break_image(test, 1)
  feed = streaming.StreamEvaluation(test, np.arange(5), 4, PLAIN)
  with contextlib.closing(feed), pytest.raises(ValueError, match='ant/1.png is not a readable'):
    list(feed.chunks(1))
  options = PLAIN._replace(on_bad_image='skip')
  with contextlib.closing(streaming.StreamEvaluation(test, np.arange(5), 4, options)) as feed:
    valid = np.concatenate([valid for _, valid in feed.chunks(1)])
    assert feed.bad_images == 1
  np.testing.assert_array_equal(valid, [[1, 0, 1, 1], [1, 0, 0, 0]])
  assert 'ant/1.png' in caplog.text


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
  supply = streaming.StreamSupply(data, 2, PLAIN, seed=0)
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
  supply = streaming.StreamSupply(data, 3, PLAIN, seed=0)
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
  supply = streaming.StreamSupply(data, 3, PLAIN, seed=0)
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
  monkeypatch.setattr('test_streaming.jpeg', lambda number: b'broken')
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
