"""Predictions of images in every form, and the sentence for each form that is refused."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import stretchnas_jax

SIZE = 4


def network(channels):
  """Returns a network without weights, as `load_trained` does: its class is the brightest row."""

  def apply_fn(variables, images):
    del variables
    images = jnp.asarray(images)
    scale = 255 if images.dtype == jnp.uint8 else 1
    return images.mean((2, 3)) / scale

  info = {
    'class_names': tuple('abcd'), 'image_shape': (SIZE, SIZE, channels), 'stream': False,
  }  # fmt: skip
  return apply_fn, {}, info


def bright_row(row, channels=1):
  image = np.zeros((SIZE, SIZE, channels), np.uint8)
  image[row] = 255
  return image


def one_image_forms(tmp_path):
  image = bright_row(2)
  picture = Image.fromarray(image[..., 0])
  picture.save(tmp_path / 'one.png')
  return {
    'array': image, 'without channel': image[..., 0], 'floats': image / 255,
    'jax': jnp.asarray(image),
    'picture': picture, 'path': tmp_path / 'one.png', 'text': str(tmp_path / 'one.png'),
    'array of paths': np.array([str(tmp_path / 'one.png')]), 'list of an array': [image],
    'iterator': iter([picture]), 'half': (image / 255).astype(jnp.bfloat16),
  }  # fmt: skip


def test_one_image_is_a_batch_of_one(tmp_path):
  for name, image in one_image_forms(tmp_path).items():
    found = stretchnas_jax.predict(network(1), image)
    assert found.classes == ['c'] and found.probabilities.shape == (1, 4), name


def test_lists_of_arrays_and_pictures_are_batches():
  images = [bright_row(row) for row in (3, 0, 1)]
  pictures = [Image.fromarray(image[..., 0]) for image in images]
  for batch in (images, np.stack(images), pictures, [images[0], pictures[1], images[2]]):
    assert stretchnas_jax.predict(network(1), batch, batch_size=2).classes == ['d', 'a', 'b']


def test_a_grey_file_serves_a_network_for_colours_too(tmp_path):
  Image.fromarray(bright_row(1)[..., 0]).save(tmp_path / 'grey.png')
  assert stretchnas_jax.predict(network(3), tmp_path / 'grey.png').classes == ['b']
  equal = Image.fromarray(bright_row(1, channels=3))
  assert stretchnas_jax.predict(network(1), equal).classes == ['b']


BATCH = np.full((2, SIZE, SIZE, 1), 0.5, np.float32)


@pytest.mark.parametrize(
  'images, words',
  [
    (BATCH * 510, 'from 255 to 255; floating-point numbers must be from 0 to 1, and pixels'),
    (BATCH - 1, 'from -0.5 to -0.5'),
    (np.where(np.arange(SIZE)[:, None] == 1, np.nan, BATCH), 'not finite'),
    (BATCH * np.inf, 'not finite'),
    (np.zeros((2, SIZE, SIZE, 1), np.int64), 'images are int64; they must be uint8'),
    (np.zeros((2, SIZE, SIZE, 1), bool), 'images are bool'),
    (np.zeros((2, SIZE, SIZE, 3), np.uint8), 'they are in colour, and the network takes .* grey'),
    (np.zeros((2, 1, SIZE, SIZE), np.uint8), 'with the channels last'),
    (np.zeros((2, 5, SIZE, 1), np.uint8), r'of shape \(2, 5, 4, 1\); they must be \[N, 4, 4, 1\]'),
    (np.zeros((3, SIZE, SIZE), np.uint8), r'of shape \(3, 4, 4\)'),
    ([BATCH[0], bright_row(0)], 'some images are of uint8 and some are floating-point'),
    (Image.new('RGB', (9, 9), 'red'), 'image 0 is in colour, and the network takes grey images'),
    ('absent.png', 'absent.png is not a readable image'),
  ],
)
def test_each_image_that_does_not_fit_is_named(images, words):
  with pytest.raises(ValueError, match=words):
    stretchnas_jax.predict(network(1), images)


def test_a_grey_array_is_refused_by_a_network_for_colours():
  with pytest.raises(ValueError, match='they are grey, and the network takes images in colour'):
    stretchnas_jax.predict(network(3), BATCH)


def test_a_picture_of_unknown_range_is_named():
  with pytest.raises(ValueError, match='image 1 cannot be read: its pixels are floating-point'):
    stretchnas_jax.predict(network(1), [Image.new('L', (4, 4)), Image.new('F', (4, 4))])


@pytest.mark.parametrize('size', [0, -1, 2.5, True, '8', None])
def test_a_wrong_batch_size_is_named(size, unchecked):
  with pytest.raises(ValueError, match='batch_size is .*; it must be a whole number of at least 1'):
    stretchnas_jax.predict(network(1), BATCH, batch_size=size)


@pytest.mark.parametrize(
  'images, words',
  [
    (b'png', 'images is a bytes; it must be an array, an image, or a list'),
    ({'a': 1}, 'images is a dict'),
    (None, 'images is a NoneType'),
    ([[[0]]], 'image 0 is a list; it must be a file, a Pillow image or an array'),
    ([types.SimpleNamespace()], 'image 0 is a SimpleNamespace'),
  ],
)
def test_what_is_no_image_is_named(images, words, unchecked):
  with pytest.raises(ValueError, match=words):
    stretchnas_jax.predict(network(1), images)


def test_values_that_rounding_leaves_above_one_are_taken():
  found = stretchnas_jax.predict(network(1), BATCH * 2.000001)
  assert found.probabilities.shape == (2, 4)
