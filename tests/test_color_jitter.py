"""Compares colour jitter with a loop over pixels in float64, and with Pillow."""

import colorsys
import functools

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from stretchnas_jax.data.batches import color_jitter

DEFAULT = color_jitter.Strengths()


@functools.partial(jax.jit, static_argnames='strengths')
def run(key, images, positions, strengths=DEFAULT):
  return color_jitter.color_jitter(key, images, positions, strengths)


@functools.partial(jax.jit, static_argnames='strengths')
def draw_all(key, positions, strengths):
  return jax.vmap(lambda position: color_jitter.choices(key, position, strengths))(positions)


@pytest.fixture(scope='module')
def images():
  pixels = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3), np.uint8)
  pixels[:, 0, 0] = 77  # a grey, which has no hue
  pixels[:, 0, 1], pixels[:, 0, 2] = 0, 255
  pixels[:, 1, 0], pixels[:, 1, 1] = (255, 255, 0), (9, 200, 200)
  return pixels


def changed(pixels, which, amount):
  """Returns an image after one change, computed as torchvision documents it."""
  if which == 3:
    return np.array([[turned(pixel, amount) for pixel in row] for row in pixels])
  grey = 0.299 * pixels[..., 0] + 0.587 * pixels[..., 1] + 0.114 * pixels[..., 2]
  other = [np.zeros_like(pixels), np.full_like(pixels, grey.mean()), grey[..., None]][which]
  return np.clip(amount * pixels + (1 - amount) * other, 0, 1)


def turned(pixel, turns):
  hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
  return colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)


@pytest.mark.parametrize('strengths', [DEFAULT, color_jitter.Strengths(1.5, 0.0, 0.9, 0.5)])
def test_jitter_is_the_loop(key, images, strengths):
  positions = np.arange(100, 112)
  got = run(key, images, positions, strengths=strengths)
  assert got.shape == images.shape and got.dtype == np.float32
  draws = draw_all(key, positions, strengths)
  for i, image in enumerate(images):
    wanted = image / 255
    for which in np.asarray(draws.order)[i]:
      wanted = changed(wanted, which, float(draws.amounts[i, which]))
    np.testing.assert_allclose(got[i], wanted, atol=2e-5)


@pytest.mark.parametrize(
  'change, enhance',
  [
    (color_jitter.change_brightness, ImageEnhance.Brightness),
    (color_jitter.change_contrast, ImageEnhance.Contrast),
    (color_jitter.change_saturation, ImageEnhance.Color),
  ],
)
def test_three_changes_are_those_of_pillow(images, change, enhance):
  for factor in 0.6, 1.0, 1.4:
    wanted = np.asarray(enhance(Image.fromarray(images[0])).enhance(factor))
    got = np.asarray(change(np.float32(images[0]) / 255, factor)) * 255
    np.testing.assert_allclose(got, wanted, atol=1.6)  # Pillow rounds twice


def test_choices_cover_their_ranges_evenly(key):
  strengths = color_jitter.Strengths(0.4, 1.5, 0.2, 0.1)
  draws = jax.tree.map(np.asarray, draw_all(key, np.arange(3000), strengths))
  for values, low, high in zip(draws.amounts.T, [0.6, 0, 0.8, -0.1], [1.4, 2.5, 1.2, 0.1]):
    assert low <= values.min() and values.max() <= high
    np.testing.assert_allclose(np.histogram(values, 5, (low, high))[0] / 3000, 0.2, atol=0.04)
  orders, counts = np.unique(draws.order, axis=0, return_counts=True)
  assert (np.sort(orders) == range(4)).all() and len(orders) == 24
  np.testing.assert_allclose(counts / 3000, 1 / 24, atol=0.02)
  assert np.abs(np.corrcoef(draws.amounts.T) - np.eye(4)).max() < 0.08


def test_an_example_does_not_depend_on_the_rest_of_its_batch(key, images):
  whole = np.asarray(run(key, images, np.arange(12)))
  order = np.array([7, 2, 9, 4, 11, 0, 1, 5, 3, 10, 6, 8])
  np.testing.assert_allclose(run(key, images[order], order), whole[order], atol=1e-6)
  assert not np.allclose(run(jax.random.key(1), images, np.arange(12)), whole, atol=0.01)
  alike = np.asarray(run(key, np.repeat(images[:1], 12, axis=0), np.arange(12)))
  assert len(np.unique(alike.reshape(12, -1).round(3), axis=0)) == 12


def test_nothing_changes_at_strength_zero(key, images):
  got = run(key, images, np.arange(12), strengths=color_jitter.Strengths(0.0, 0.0, 0.0, 0.0))
  np.testing.assert_allclose(got, images / 255, atol=1e-5)
