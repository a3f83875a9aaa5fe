"""Predictions of a trained network for arrays, image files and Pillow images."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PyTree, Shaped, UInt8
from PIL import Image

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.data.batches import crops
from stretchnas_jax.data.datasets import images as images_lib

# An image file, or an image that Pillow has opened or made.
_Picture = str | os.PathLike[str] | Image.Image


class Predictions(NamedTuple):
  """The classes of N images, M possible ones.

  Attributes:
    classes: N names of the most probable classes; with `top`, N lists of names, the most probable
      one first.
    probabilities: of all classes, in the order of `class_names`.
  """

  classes: list[str] | list[list[str]]
  probabilities: Float[np.ndarray, 'N M']


def predict(
  loaded: tuple[Callable[..., Any], PyTree, Mapping[str, Any]],
  images: Shaped[AnyArray, 'N H W C'] | Sequence[_Picture],
  batch_size: int = 256,
  top: int | None = None,
) -> Predictions:
  """Returns the classes of images.

  Args:
    loaded: the result of `load_trained`.
    images: an array that its `apply_fn` takes, or a list of image files or Pillow images. They are
      scaled in the same way as the images on which the network was measured.
    batch_size: the number of images that are computed at once.
    top: the number of classes to name for each image, for example 5; None for the name of one.

  Raises:
    ValueError: `top` exceeds the number of classes, or an image cannot be read.
  """
  apply_fn, variables, info = loaded
  names = info['class_names']
  if top is not None and top not in range(1, len(names) + 1):
    raise ValueError(f'top is {top!r}; there are {len(names)} classes')
  if not hasattr(images, 'dtype'):
    images = _read_all(images, info['image_shape'], info['stream'])
  logits = _logits(apply_fn, variables, images, batch_size, len(names))
  ranked = np.argsort(-logits, axis=-1, kind='stable')
  classes = [[names[i] for i in row] for row in ranked[:, : top or 1]]
  if top is None:
    classes = [row[0] for row in classes]
  return Predictions(classes, np.asarray(jax.nn.softmax(logits)))


def _logits(
  apply_fn: Callable[..., Any],
  variables: PyTree,
  images: Shaped[AnyArray, 'N H W C'],
  batch_size: int,
  num_classes: int,
) -> Float[np.ndarray, 'N M']:
  """Returns the logits of all images, in batches of one size so that one program serves all."""
  compiled = jax.jit(apply_fn)  # a second call with the same function compiles nothing
  size = min(batch_size, max(len(images), 1))
  logits = [np.zeros((0, num_classes), np.float32)]
  for start in range(0, len(images), size):
    part = np.asarray(images[start : start + size])
    empty = np.zeros((size - len(part), *part.shape[1:]), part.dtype)
    found = compiled(variables, np.concatenate([part, empty]))
    logits.append(np.asarray(found)[: len(part)])
  return np.concatenate(logits)


def _read_all(
  pictures: Sequence[_Picture], image_shape: Sequence[int], center: bool
) -> UInt8[np.ndarray, 'N size size C']:
  """Reads images to one size.

  Args:
    pictures: image files or Pillow images.
    image_shape: (H, W, C) of the network's images.
    center: True to take the centres of images, as streams do; False to scale whole images.
  """
  size, _, channels = image_shape
  pixels = [_read(picture, size, center) for picture in pictures]
  pixels = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
  # A grey image has three equal channels here.
  return pixels if channels == 3 else pixels[..., :1]


def _read(picture: _Picture, size: int, center: bool) -> UInt8[np.ndarray, 'size size 3']:
  """Reads one image to `size` pixels a side; see `_read_all`."""
  if isinstance(picture, Image.Image):
    return crops.center(picture.copy(), size) if center else images_lib.square(picture, size)
  if center:
    return crops.read_center(picture, size, name=picture)
  return images_lib.read(picture, size)
