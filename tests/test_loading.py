"""Tests of loading data sets: digits, and the checks that every data set passes."""

import numpy as np
import pytest

from stretchnas_jax.data.datasets import dataset, loading


@pytest.fixture(scope='module')
def digits():
  return loading.load('digits')


def test_digits(digits):
  assert digits.name == 'digits' and digits.class_names == tuple('0123456789')
  assert digits.train_images.shape == (1437, 16, 16, 1)
  assert digits.test_images.shape == (360, 16, 16, 1)
  assert digits.train_images.dtype == digits.test_images.dtype == np.uint8
  assert digits.train_labels.dtype == digits.test_labels.dtype == np.int32
  shares = [
    np.bincount(labels) / len(labels) for labels in (digits.train_labels, digits.test_labels)
  ]
  np.testing.assert_allclose(shares[0], shares[1], atol=0.005)


def test_digits_are_divided_the_same_way_every_time_and_none_is_lost(digits):
  from sklearn import datasets

  small = loading.load('digits', image_size=8)
  assert small.train_images.shape == (1437, 8, 8, 1)
  np.testing.assert_array_equal(small.test_labels, digits.test_labels)
  ours = np.concatenate([small.train_images, small.test_images]).reshape(1797, 64)
  theirs = np.round(datasets.load_digits().data / 16 * 255)
  np.testing.assert_array_equal(np.unique(ours, axis=0), np.unique(theirs, axis=0))
  assert small.train_images.max() == 255


def test_mean_and_std(digits):
  scaled = digits.train_images.astype(np.float64) / 255
  np.testing.assert_allclose(digits.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(digits.std, scaled.std(axis=(0, 1, 2)), rtol=1e-6)
  assert digits.mean.dtype == digits.std.dtype == np.float32


def test_statistics_of_several_blocks_and_channels():
  images = np.random.default_rng(0).integers(0, 256, (2050, 2, 3, 3), np.uint8)
  images[..., 1] //= 2
  images[..., 2] = 51
  mean, std = dataset.channel_statistics(images)
  np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(std[:2], (images / 255).std(axis=(0, 1, 2))[:2], rtol=1e-6)
  assert std[2] == 1  # a channel that never varies can be divided by it


@pytest.mark.parametrize(
  'arguments, words',
  [
    ({'name': 'imagenet2012'}, "'imagenet2012'; .* digits, folder, cifar10, cifar100"),
    ({'name': 'digits', 'path': 'x'}, "data.path is 'x'; digits"),
    ({'name': 'digits', 'image_size': 0}, 'data.image_size is 0'),
    ({'name': 'digits', 'on_bad_image': 'cry'}, "'cry'; it must be error or skip"),
    ({'name': 'folder'}, 'data.path is missing'),
  ],
)
def test_load_names_the_mistake(arguments, words):
  with pytest.raises(ValueError, match=words):
    loading.load(**arguments)


@pytest.mark.parametrize(
  'change, words',
  [
    ({'train_labels': [0, 1, 2]}, r'\(train\) has labels outside 0 .. 1'),
    ({'train_labels': [0, 1, -1]}, 'labels outside'),
    ({'train_labels': [0, 1]}, '3 images and 2 labels'),
    ({'train_images': np.zeros((3, 4, 4, 1))}, 'images of float64'),
    ({'train_images': np.zeros((3, 4, 4), np.uint8)}, 'not bytes'),
    ({'test_images': np.zeros((0, 4, 4, 1), np.uint8), 'test_labels': []}, r'\(test\) has 0'),
  ],
)
def test_every_part_is_checked(change, words):
  arrays = {'train_images': np.zeros((3, 4, 4, 1), np.uint8), 'train_labels': [0, 1, 0]}
  assert dataset.make_dataset('x', arrays, ['a', 'b']).test_images is None
  with pytest.raises(ValueError, match=words):
    dataset.make_dataset('x', arrays | change, ['a', 'b'])
