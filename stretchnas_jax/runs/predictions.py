"""Predictions of a trained network for arrays, image files and Pillow images."""

from typing import NamedTuple

import jax
import numpy as np

from stretchnas_jax.data.batches import crops
from stretchnas_jax.data.datasets import images as images_lib


class Predictions(NamedTuple):
  """What a network says about N images."""

  classes: list  # N names, the most probable ones; or N lists of names, the most probable first
  probabilities: np.ndarray  # float32 [N, number of classes]


def predict(loaded, images, batch_size=256, top=None):
  """Classes of images.

  Args:
    loaded: what `load_trained` gave.
    images: an array as its `apply_fn` takes, or a list of image files or Pillow images, which are
      scaled as the images are on which the network was measured.
    batch_size: how many are computed at once.
    top: how many classes are named of each image, as 5; None for the name of one.

  Returns:
    `Predictions`.
  """
  apply_fn, variables, info = loaded
  if top is not None and top not in range(1, len(info['class_names']) + 1):
    raise ValueError(f'top is {top!r}; there are {len(info["class_names"])} classes')
  if not hasattr(images, 'dtype'):
    images = read_all(images, info['image_shape'], info['stream'])
  compiled = jax.jit(apply_fn)  # of the same function: compiles once
  size = min(batch_size, max(len(images), 1))
  logits = []
  for start in range(0, len(images), size):
    part = np.asarray(images[start : start + size])
    filled = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
    logits.append(np.asarray(compiled(variables, filled))[: len(part)])
  names = info['class_names']
  logits = np.concatenate(logits or [np.zeros((0, len(names)), np.float32)])
  ranked = np.argsort(-logits, axis=-1, kind='stable')
  classes = [[names[i] for i in row] for row in ranked[:, : top or 1]]
  if top is None:
    classes = [row[0] for row in classes]
  return Predictions(classes, np.asarray(jax.nn.softmax(logits)))


def read_all(images, image_shape, center=False):
  """Image files or Pillow images as uint8 `[N, H, W, C]`, scaled as a whole or their centres."""
  size, _, channels = image_shape
  pixels = [read(image, size, center) for image in images]
  pixels = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
  # Of a grey image all three channels are the same.
  return pixels if channels == 3 else pixels[..., :1]


def read(image, size, center):
  """An image file or a Pillow image as uint8 `[size, size, 3]`."""
  if hasattr(image, 'convert'):
    return crops.center(image.copy(), size) if center else images_lib.square(image, size)
  if center:
    return crops.read_center(image, size, name=image)
  return images_lib.read(image, size)
