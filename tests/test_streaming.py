"""Tests of streams: their batches, their evaluation, and images that cannot be read."""

import contextlib
import functools
import threading

import jax
import numpy as np
import pytest
from image_streams import PLAIN, closed_feeds, load, make_tree, numbers_of, save

from stretchnas_jax.data.batches import (
  augment,
  color_jitter,
  crops,
  order,
  stream_batches,
  streaming,
)
from stretchnas_jax.data.datasets import encoded, encoded_images


@pytest.fixture
def tree(tmp_path):
  return make_tree(tmp_path / 'set')


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
  with closed_feeds() as make:
    yield make


@pytest.fixture
def opened(monkeypatch):
  """Returns a list to which each opened image is added."""
  kind = encoded_images.Files
  found, real = [], kind.open
  monkeypatch.setattr(kind, 'open', lambda self, i: found.append(i) or real(self, i))
  return found


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
  np.testing.assert_array_equal(valid, [[1, 0, 1, 1], [1, 0, 0, 0]])
  assert 'ant/1.png' in caplog.text


def test_as_many_broken_images_as_count_are_no_error(tree):
  test = load(tree).test
  break_image(test, 0)
  break_image(test, 1)
  options = PLAIN._replace(on_bad_image='skip')
  with contextlib.closing(streaming.StreamEvaluation(test, np.arange(5), 4, options)) as feed:
    list(feed.chunks(1))
    assert list(feed.mixed(2).chunks(1))
