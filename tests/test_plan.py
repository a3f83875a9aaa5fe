"""The words about the data of a run: parts, steps, and the images that an epoch leaves out."""

import types

import pytest

from stretchnas_jax.runs import plan


@pytest.mark.parametrize(
  'images, batch, words',
  [
    (25000, 64, 'train 25000 (390 steps of 64; 40 images wait for another epoch), val 9'),
    (479, 64, 'train 479 (7 steps of 64; 31 images wait for another epoch), val 9'),
    (128, 64, 'train 128 (2 steps of 64), val 9'),
  ],
)
def test_images_that_an_epoch_leaves_out_are_said(images, batch, words, unchecked):
  feeds = types.SimpleNamespace(
    name='x',
    image_shape=(8, 8, 3),
    class_names=('a', 'b'),
    class_counts={},
    warnings=(),
    sizes={'train': images, 'val': 9},
  )
  assert plan.describe_data(feeds, batch) == f'data      x: 8x8x3, 2 classes; {words}'
