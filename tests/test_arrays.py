"""Data sets that a user hands over as arrays, and the feeds that a config opens on them."""

import contextlib

import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax import config as config_lib
from stretchnas_jax.data.batches import opening
from stretchnas_jax.data.datasets import arrays, loading

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), np.uint8)
LABELS = np.arange(12) % 3


def pair(count, first=0):
  """Images and labels of `count` examples; each image has its number in every pixel."""
  numbers = np.arange(first, first + count)
  images = np.broadcast_to(numbers[:, None, None, None], (count, 4, 4, 1))
  return images.astype(np.uint8), numbers % 3


def test_a_pair_is_the_training_part():
  data = arrays.from_arrays((IMAGES, LABELS), 'mine')
  assert data.name == 'mine' and data.class_names == ('0', '1', '2')
  assert data.train_images is IMAGES and data.train_labels.dtype == np.int32
  np.testing.assert_array_equal(data.train_labels, LABELS)
  assert data.val_images is None and data.test_images is None and data.test_labels is None
  np.testing.assert_allclose(data.mean, (IMAGES / 255).mean(axis=(0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(data.std, (IMAGES / 255).std(axis=(0, 1, 2)), rtol=1e-6)


def test_all_three_parts():
  parts = {'train': (IMAGES, LABELS), 'val': (IMAGES[:5], LABELS[:5]), 'test': pair(3)}
  parts['test'] = IMAGES[5:], list(LABELS[5:])
  data = arrays.from_arrays(parts, class_names=['ant', 'bee', 'cat'])
  assert data.class_names == ('ant', 'bee', 'cat')
  np.testing.assert_array_equal(data.val_images, IMAGES[:5])
  np.testing.assert_array_equal(data.test_labels, LABELS[5:])
  np.testing.assert_allclose(data.mean, (IMAGES / 255).mean(axis=(0, 1, 2)), rtol=1e-6)


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.float16, jnp.bfloat16])
def test_floating_point_images_become_the_nearest_bytes(dtype):
  images = (IMAGES / 255).astype(dtype)
  data = arrays.from_arrays((images, LABELS))
  wanted = np.rint(images.astype(np.float64) * 255)
  assert data.train_images.dtype == np.uint8
  np.testing.assert_array_equal(data.train_images, wanted)
  if dtype in (np.float32, np.float64):
    np.testing.assert_array_equal(data.train_images, IMAGES)


@pytest.mark.parametrize(
  'dtype, value_range',
  [(np.uint16, (0, 4095)), (np.int32, (-100, 1000)), (np.float32, (-1, 1)), (np.float16, (0, 255))],
)
def test_numbers_in_a_stated_range_become_the_nearest_bytes(dtype, value_range):
  low, high = value_range
  values = (low + (IMAGES / 255) * (high - low)).astype(dtype)
  data = arrays.from_arrays((values, LABELS), value_range=value_range)
  wanted = np.rint((values.astype(np.float64) - low) * 255 / (high - low))
  np.testing.assert_allclose(data.train_images, wanted, atol=1)
  assert len(np.unique(data.train_images)) > 200
  with pytest.raises(ValueError, match=f'must be from {low + 1} to {high}$'):
    arrays.from_arrays((np.full_like(values, low), LABELS), value_range=(low + 1, high))
  same = arrays.from_arrays((IMAGES, LABELS), value_range=value_range)  # bytes need no range
  assert same.train_images is IMAGES


def test_arrays_of_jax_and_another_size():
  data = arrays.from_arrays((jnp.asarray(IMAGES), jnp.asarray(LABELS)), image_size=8)
  assert data.train_images.shape == (12, 8, 8, 3)
  assert arrays.from_arrays((IMAGES[:, :, :3], LABELS)).train_images.shape == (12, 4, 3, 3)
  assert arrays.from_arrays((IMAGES, LABELS), image_size=(6, 8)).train_images.shape == (12, 6, 8, 3)


NAN, INFINITE = np.full(IMAGES.shape, 0.5), np.full(IMAGES.shape, 0.5, np.float32)
NAN[3, 1, 1, 1], INFINITE[2, 0, 0, 0] = np.nan, np.inf


@pytest.mark.parametrize(
  'data, words',
  [
    (None, r'arrays \(train\) must be a pair \(images, labels\), not a NoneType'),
    ((IMAGES,), 'must be a pair .*, not a tuple of 1 items'),
    ({}, "data has no part 'train'"),
    ({'test': (IMAGES, LABELS)}, "data has no part 'train'"),
    ({'train': (IMAGES, LABELS), 'valid': pair(3)}, "part 'valid'; allowed are train, val, test"),
    ({'train': (IMAGES, LABELS), 'val': IMAGES}, r'\(val\) must be a pair .* not a ndarray'),
    ((IMAGES[0], LABELS), r'images of shape \(4, 4, 3\); it must be \[N, H, W, 1 or 3\]'),
    ((IMAGES[..., :2], LABELS), r'images of shape \(12, 4, 4, 2\)'),
    ((IMAGES[:0], LABELS[:0]), r'has no images: their shape is \(0, 4, 4, 3\)'),
    ((IMAGES[:, :0], LABELS), 'has no images'),
    ((IMAGES.astype(int), LABELS), 'images of int64; they must be uint8, or floating-point'),
    ((IMAGES.astype(float), LABELS), 'images from 0 to 255; .* must be from 0 to 1'),
    ((IMAGES / 255 - 0.5, LABELS), 'images from -0.5 to 0.5; .* must be from 0 to 1'),
    ((NAN, LABELS), 'images with NaN or infinite numbers'),
    ((INFINITE, LABELS), 'images with NaN or infinite numbers'),
    ((IMAGES.astype(str), LABELS), 'images have the type .*; they must be numbers'),
    (([[1], [2, 3]], LABELS), 'images are not an array'),
    ((IMAGES, LABELS[:5]), '12 images and 5 labels'),
    ((IMAGES, LABELS[:, None]), r'labels of shape \(12, 1\); it must be \[N\]'),
    ((IMAGES, LABELS / 2), 'labels of float64; they must be integers'),
    ((IMAGES, LABELS == 1), 'labels of bool; they must be integers'),
    ((IMAGES, ['cat'] * 12), 'labels have the type .*; they must be numbers'),
    ((IMAGES, LABELS - 1), 'the label -1; labels count from 0'),
    ((IMAGES, LABELS * 0), 'has one class only; at least two are needed'),
    (
      {'train': (IMAGES, LABELS), 'test': pair(3)},
      r'\(test\) .* \(4, 4, 1\); the training images have',
    ),
    (
      {'train': (IMAGES, LABELS), 'test': (IMAGES, LABELS + 1)},
      r'\(test\) has labels outside 0 .. 2',
    ),
  ],
)
def test_each_mistake_is_named(unchecked, data, words):
  with pytest.raises(ValueError, match=words) as caught:
    arrays.from_arrays(data)
  assert '\n' not in str(caught.value)


# ---- feeds ---------------------------------------------------------------------------------------


def training(**fields):
  config = config_lib.train_config()
  config.update_from_flattened_dict(
    {'data.name': 'digits', 'train.batch_size': 3, 'data.cutout': 0, **fields}
  )
  return config


def searching(**fields):
  config = config_lib.search_config()
  config.update_from_flattened_dict({'data.name': 'digits', 'search.batch_size': 3, **fields})
  return config


def shown(feed):
  """The numbers of the images that an evaluation shows."""
  numbers = []
  for batches, valid in feed.chunks(2):
    numbers += [feed.data.images[i, 0] for i in batches[valid == 1]]
  return numbers


PARTS = {'train': pair(12), 'val': pair(6, first=20), 'test': pair(5, first=40)}


def test_a_training_validates_on_the_validation_part():
  with contextlib.closing(opening.open_training(training(), PARTS)) as feeds:
    assert feeds.sizes == {'train': 12, 'val': 6, 'test': 5}
    assert feeds.image_shape == (4, 4, 1) and feeds.class_names == ('0', '1', '2')
    assert shown(feeds.val) == list(range(20, 26)) and shown(feeds.test) == list(range(40, 45))
    assert feeds.train.data.images[:, 0].tolist() == list(range(12))
  words = 'config.data.holdout is 0.5; it must be 0, because arrays has validation images'
  with pytest.raises(ValueError, match=words):
    opening.open_training(training(**{'data.holdout': 0.5}), PARTS)


def test_in_a_search_alpha_and_beta_learn_from_the_validation_images():
  with contextlib.closing(opening.open_search(searching(), PARTS)) as feeds:
    assert feeds.sizes == {'train': 12, 'val_alpha': 3, 'val_beta': 3}
    assert feeds.train.data is feeds.val.data and feeds.test is None
    seen = feeds.train.data.images[:, 0].tolist()
    assert seen == [*range(12), *range(20, 26)]
    rows = feeds.train.chunk(0, 0, 4, 4)
    assert sorted(rows['train'].ravel()) == list(range(12))
    assert sorted({*rows['val_alpha'].ravel(), *rows['val_beta'].ravel()}) == list(range(12, 18))
    assert not set(rows['val_alpha'].ravel()) & set(rows['val_beta'].ravel())
    assert feeds.class_counts == {'train': (4, 4, 4), 'val_alpha': (1, 1, 1), 'val_beta': (1, 1, 1)}
    assert sorted(shown(feeds.val)) == list(range(20, 26))
  two_way = searching(**{'data.split': 'two_way'})
  with contextlib.closing(opening.open_search(two_way, PARTS)) as feeds:
    assert feeds.sizes == {'train': 12, 'val_alpha': 6}


def test_without_validation_images_a_search_divides_the_training_images():
  with contextlib.closing(opening.open_search(searching(), {'train': pair(18)})) as feeds:
    assert feeds.sizes == {'train': 6, 'val_alpha': 6, 'val_beta': 6}
    rows = feeds.train.chunk(0, 0, 2, 2)
    assert sorted(np.concatenate([rows[field].ravel() for field in rows])) == list(range(18))
    assert not feeds.warnings


def test_a_class_that_is_too_small_for_a_part_is_named():
  images, labels = pair(12)
  labels = np.where(np.arange(12) == 0, 3, labels)
  with contextlib.closing(opening.open_search(searching(), (images, labels))) as feeds:
    (words,) = feeds.warnings
    assert words == "class '3' has no image in train and val_alpha; it has 1 in val_beta"


def test_a_data_set_may_be_given_as_such():
  digits = loading.load('digits', image_size=8)
  with contextlib.closing(opening.open_training(training(), digits)) as feeds:
    assert feeds.name == 'digits' and feeds.sizes == {'train': 1437, 'test': 360}
    assert feeds.val is None


@pytest.mark.parametrize(
  'open_feeds, config, words',
  [
    (
      opening.open_search,
      searching(**{'search.batch_size': 7}),
      r'search.batch_size is 7; .* 3 images \(val_alpha\)',
    ),
    (
      opening.open_training,
      training(**{'train.batch_size': 13}),
      r'train.batch_size is 13; .* 12 images \(train\)',
    ),
  ],
)
def test_a_batch_that_is_too_large_is_named(open_feeds, config, words):
  with pytest.raises(ValueError, match=words):
    open_feeds(config, PARTS)


def test_a_holdout_of_less_than_one_image_is_named():
  with pytest.raises(ValueError, match='holdout is 0.01, which is not one whole image of 12'):
    opening.open_training(training(**{'data.holdout': 0.01}), {'train': pair(12)})
