"""Predictions of a trained network for arrays, image files and Pillow images."""

import functools
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, Shaped, UInt8
from PIL import Image

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.data.batches import crops
from stretchnas_jax.data.datasets import images as images_lib

# An image file, or an image that Pillow has opened or made.
_Picture = str | os.PathLike[str] | Image.Image
_Item = Shaped[AnyArray, 'H W C'] | _Picture
_Read = Callable[[_Picture, int], UInt8[np.ndarray, 'H W 3']]

# The largest float that counts as 1. Scaling an image can leave a value a little above 1.
_LARGEST = 1.001


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
  images: Shaped[AnyArray, '...'] | Iterable[_Item] | _Picture,
  batch_size: int = 256,
  top: int | None = None,
) -> Predictions:
  """Returns the classes of images.

  Args:
    loaded: the result of `load_trained`.
    images: an array `[N, H, W, C]` of uint8, or of floating-point numbers from 0 to 1; or several
      image files, Pillow images, or arrays `[H, W, C]`. One image alone is a batch of one. Files
      and Pillow images are scaled in the same way as the images on which the network was measured.
    batch_size: the number of images that are computed at once.
    top: the number of classes to name for each image, for example 5; None for the name of one.

  Raises:
    ValueError: `top` exceeds the number of classes, `batch_size` is not positive, an image cannot
      be read, or the images have a shape, type or range that the network does not take.

  Example:
    >>> loaded = snas.load_trained('runs/d1')
    >>> names, probabilities = predict(loaded, np.zeros((2, 8, 8, 1), np.uint8))
    >>> probabilities.shape
    (2, 10)
  """
  apply_fn, variables, info = loaded
  names = info['class_names']
  if top is not None and (isinstance(top, bool) or top not in range(1, len(names) + 1)):
    raise ValueError(f'top is {top!r}; there are {len(names)} classes')
  size = _whole(batch_size)
  image_shape = tuple(info['image_shape'])
  value_range = info.get('config', {}).get('data', {}).get('range')
  read = functools.partial(_read, image_shape[:2], info['stream'], value_range)
  pixels = _pixels(images, image_shape, read)
  logits = _logits(apply_fn, variables, pixels, size, len(names))
  ranked = np.argsort(-logits, axis=-1, kind='stable')
  classes = [[names[i] for i in row] for row in ranked[:, : top or 1]]
  if top is None:
    classes = [row[0] for row in classes]
  return Predictions(classes, np.asarray(jax.nn.softmax(logits)))


def _whole(batch_size: int) -> int:
  """Returns the size of a batch as an int; ValueError unless it is a positive whole number."""
  try:
    size = 0 if isinstance(batch_size, bool) else operator.index(batch_size)
  except TypeError:
    size = 0
  if size < 1:
    raise ValueError(f'batch_size is {batch_size!r}; it must be a whole number of at least 1')
  return size


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


# ---- the images, in any form ---------------------------------------------------------------------


def _pixels(
  images: Any, image_shape: tuple[int, ...], read: _Read
) -> Shaped[np.ndarray, 'N H W C']:
  """Returns images in any form as an array that the network takes.

  Args:
    images: as for `predict`.
    image_shape: (H, W, C) of the network's images.
    read: reads one image to their size; see `_read`.
  """
  if isinstance(images, (str, os.PathLike, Image.Image)):
    images = [images]
  if not hasattr(images, 'dtype'):
    return _stacked(images, image_shape, read)
  array = np.asarray(images)
  if array.dtype.kind in 'OUS':  # an array of paths
    return _stacked(array.ravel().tolist(), image_shape, read)
  if array.shape == image_shape or (*array.shape, 1) == image_shape:
    array = array.reshape(1, *image_shape)
  return _checked(array, image_shape)


def _stacked(
  images: Any, image_shape: tuple[int, ...], read: _Read
) -> Shaped[np.ndarray, 'N H W C']:
  """Returns several images as one array; each may be a file, a Pillow image or an array."""
  if not isinstance(images, Iterable) or isinstance(images, (bytes, bytearray, Mapping)):
    raise ValueError(
      f'images is a {type(images).__name__}; it must be an array, an image, or a list of images'
    )
  channels, found = image_shape[-1], []
  for i, image in enumerate(images):
    if hasattr(image, 'dtype') and np.ndim(image):
      found.append(_pixels(image, image_shape, read)[0])
    elif isinstance(image, (str, os.PathLike, Image.Image)):
      found.append(_with_channels(read(image, i), channels, _name(image, i)))
    else:
      raise ValueError(
        f'image {i} is a {type(image).__name__}; it must be a file, a Pillow image or an array'
      )
  if len({pixels.dtype for pixels in found}) > 1:
    raise ValueError(
      'some images are of uint8 and some are floating-point numbers; give all of them one type'
    )
  return np.stack(found) if found else np.zeros((0, *image_shape), np.uint8)


def _checked(
  images: Shaped[np.ndarray, '...'], image_shape: tuple[int, ...]
) -> Shaped[np.ndarray, 'N H W C']:
  """Returns an array of images; ValueError unless the network takes its shape, type and range."""
  if images.ndim != 4 or images.shape[1:] != image_shape:
    raise ValueError(_shape_fault(images.shape, image_shape))
  if images.dtype != np.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
      f'images are {images.dtype}; they must be uint8, or floating-point numbers from 0 to 1'
    )
  if images.dtype != np.uint8 and images.size:
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
      raise ValueError('images hold numbers that are not finite (NaN or infinity)')
    if low < 1 - _LARGEST or high > _LARGEST:
      raise ValueError(
        f'images hold numbers from {low:g} to {high:g}; floating-point numbers must be from 0 to '
        '1, and pixels from 0 to 255 must be uint8'
      )
  return images


def _shape_fault(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> str:
  """Returns the sentence about images of a wrong shape."""
  height, width, channels = image_shape
  fault = f'images are of shape {shape}; they must be [N, {height}, {width}, {channels}]'
  if shape[-3:] == (channels, height, width):
    return f'{fault}, with the channels last'
  if shape[-3:-1] == (height, width) and {shape[-1], channels} == {1, 3}:
    kinds = {1: 'grey', 3: 'in colour'}
    return f'{fault}: they are {kinds[shape[-1]]}, and the network takes images {kinds[channels]}'
  return fault


def _with_channels(
  pixels: UInt8[np.ndarray, 'H W 3'], channels: int, name: str
) -> UInt8[np.ndarray, 'H W C']:
  """Returns an image with the channels of the network; ValueError for colours that would be lost.

  A grey image has three equal channels here.
  """
  if channels == 3:
    return pixels
  if (pixels[..., :1] != pixels).any():
    raise ValueError(
      f'{name} is in colour, and the network takes grey images: convert it, in Pillow by '
      "convert('L')"
    )
  return pixels[..., :1]


def _read(
  size: tuple[int, int],
  center: bool,
  value_range: images_lib.Range | None,
  picture: _Picture,
  i: int,
) -> UInt8[np.ndarray, 'H W 3']:
  """Reads image i.

  Args:
    size: height and width of the network's images.
    center: True to take the centres of images, as streams do; False to scale whole images.
    value_range: `data.range` of the run.
    picture: a file or a Pillow image.
    i: its number.
  """
  if not isinstance(picture, Image.Image):
    if center:
      return crops.read_center(picture, size, name=picture, value_range=value_range)
    return images_lib.read(picture, size, value_range)
  try:
    if center:
      return crops.center(picture.copy(), size, value_range)
    return images_lib.scaled(picture, size, value_range)
  except (OSError, ValueError) as error:
    raise ValueError(f'{_name(picture, i)} cannot be read: {error}') from error


def _name(image: _Picture, i: int) -> str:
  """Returns the words for an image in a message."""
  return f'image {i}' if isinstance(image, Image.Image) else repr(str(image))
