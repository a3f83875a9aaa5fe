"""Compares augmentation with a loop over pixels in float64 that makes the same random choices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.data.batches import augment

MEAN, STD = np.float32([0.5, 0.4, 0.3]), np.float32([0.2, 0.25, 0.3])


@functools.partial(jax.jit, static_argnames=('crop_padding', 'flip', 'cutout'))
def run(key, images, positions, **options):
  with jax.numpy_rank_promotion('raise'):
    return augment.augment(key, images, positions, mean=MEAN, std=STD, **options)


@functools.partial(jax.jit, static_argnames=('height', 'width', 'crop_padding'))
def draw_all(key, positions, height, width, crop_padding):
  one = functools.partial(augment.choices, height=height, width=width, crop_padding=crop_padding)
  return jax.vmap(one, (None, 0))(key, positions)


def nth(draws, i):
  return jax.tree.map(lambda x: np.asarray(x)[i], draws)


@pytest.fixture
def images():
  return np.random.default_rng(0).integers(1, 256, (12, 9, 7, 3), np.uint8)


def expected(image, draw, *, crop_padding, flip, cutout):
  """Returns an augmented image, computed pixel by pixel."""
  height, width, channels = image.shape
  out = np.zeros(image.shape)
  for row in range(height):
    for column in range(width):
      from_row = row + int(draw.offset[0]) - crop_padding
      mirrored = width - 1 - column if flip and bool(draw.flip) else column
      from_column = mirrored + int(draw.offset[1]) - crop_padding
      inside = 0 <= from_row < height and 0 <= from_column < width
      pixel = image[from_row, from_column] if inside else np.zeros(channels)
      out[row, column] = (pixel / 255 - MEAN.astype(float)) / STD
  if cutout:
    top, left = (int(c) - cutout // 2 for c in draw.center)
    out[max(top, 0) : max(top + cutout, 0), max(left, 0) : max(left + cutout, 0)] = 0
  return out


@pytest.mark.parametrize(
  'options',
  [
    {'crop_padding': 3, 'flip': True, 'cutout': 0},
    {'crop_padding': 2, 'flip': False, 'cutout': 4},
    {'crop_padding': 0, 'flip': True, 'cutout': 3},
    {'crop_padding': 0, 'flip': False, 'cutout': 30},
  ],
)
def test_augment_is_the_loop(key, images, options):
  positions = np.arange(100, 112)
  got = run(key, images, positions, **options)
  assert got.shape == images.shape and got.dtype == jnp.float32
  draws = draw_all(key, positions, 9, 7, options['crop_padding'])
  for i, image in enumerate(images):
    wanted = expected(image, nth(draws, i), **options)
    np.testing.assert_allclose(got[i], wanted, atol=2e-6)


def test_defaults_are_those_of_darts(key, images):
  positions = np.arange(12)
  got = run(key, images, positions)
  draw = nth(draw_all(key, positions, 9, 7, 4), 5)
  wanted = expected(images[5], draw, crop_padding=4, flip=True, cutout=0)
  np.testing.assert_allclose(got[5], wanted, atol=2e-6)


def test_choices_cover_their_ranges_evenly(key):
  draws = jax.tree.map(np.asarray, draw_all(key, np.arange(1500), 3, 5, 2))
  parts = [*draws.offset.T, draws.flip.astype(int), *draws.center.T]
  for values, size in zip(parts, [5, 5, 2, 3, 5]):
    share = np.bincount(values, minlength=size) / 1500
    np.testing.assert_allclose(share, np.full(size, 1 / size), atol=0.05)
  # The choices for one example are independent of one another.
  others = np.corrcoef(np.array(parts, float)) - np.eye(5)
  assert np.abs(others).max() < 0.12


def test_an_example_does_not_depend_on_the_rest_of_its_batch(key, images):
  options = {'crop_padding': 2, 'flip': True, 'cutout': 4}
  whole = np.asarray(run(key, images, np.arange(12), **options))
  on_one_device = functools.partial(augment.augment, mean=MEAN, std=STD, **options)
  parts = jax.pmap(on_one_device, in_axes=(None, 0, 0))(
    key, images.reshape(4, 3, 9, 7, 3), np.arange(12).reshape(4, 3)
  )
  np.testing.assert_array_equal(np.asarray(parts).reshape(whole.shape), whole)
  order = np.array([7, 2, 9, 4, 11, 0, 1, 5, 3, 10, 6, 8])
  np.testing.assert_array_equal(run(key, images[order], order, **options), whole[order])


def test_key_and_position_both_matter(key, images):
  same = np.repeat(images[:1], 12, axis=0)
  first = np.asarray(run(key, same, np.arange(12)))
  assert len(np.unique(first.reshape(12, -1), axis=0)) > 8
  assert not np.array_equal(first, run(jax.random.key(1), same, np.arange(12)))
  alike = np.asarray(run(key, same, np.full(12, 3)))
  np.testing.assert_array_equal(alike, np.repeat(first[3:4], 12, axis=0))


@pytest.mark.parametrize('convert', [tuple, list, np.asarray, jnp.asarray])
def test_normalize(images, convert):
  got = augment.normalize(images, convert(MEAN), convert(STD))
  wanted = (images.astype(np.float64) / 255 - MEAN) / STD
  np.testing.assert_allclose(got, wanted, atol=2e-6)
  assert got.dtype == jnp.float32


def test_one_channel():
  got = augment.normalize(np.full((2, 4, 4, 1), 255, np.uint8), [0.5], [0.25])
  np.testing.assert_array_equal(got, np.full((2, 4, 4, 1), 2.0))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_floating_point_images_are_taken_to_be_scaled_already(dtype):
  got = augment.normalize(jnp.full((2, 4, 4, 1), 0.5, dtype), [0.25], [0.125])
  np.testing.assert_array_equal(got, np.full((2, 4, 4, 1), 2.0))
  assert got.dtype == jnp.float32


def test_images_of_another_type_are_refused():
  words = 'images are int32; they must be uint8, or floating-point 0 to 1'
  with pytest.raises(ValueError, match=words):
    augment.normalize(jnp.zeros((1, 2, 2, 1), jnp.int32), [0.0], [1.0])
