"""Data sets that a user hands over as arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike

from stretchnas_jax.data.datasets import images as images_lib
from stretchnas_jax.data.datasets.dataset import Dataset, make_dataset

_PARTS = ('train', 'val', 'test')

Pair = tuple[ArrayLike, ArrayLike]
"""Images and labels."""


def from_arrays(
  data: Pair | Mapping[str, Pair],
  name: str = 'arrays',
  *,
  class_names: Sequence[str] | None = None,
  image_size: images_lib.Size | None = None,
  value_range: images_lib.Range | None = None,
) -> Dataset:
  """Builds a data set from arrays and checks them.

  Images are `[N, H, W, 1]` or `[N, H, W, 3]`, either uint8, or floating-point numbers from 0 to 1.
  With a range they may be numbers of any type in that range. A number becomes the nearest byte,
  for example `round(255 * x)` from 0 to 1; bytes stay as they are. Labels are integers `[N]`,
  counted from 0. Mean and standard deviation are computed from the images in 'train'.

  A training evaluates on the part 'val' as its validation part. In a search alpha and beta learn
  from the part 'val', and the weights from the part 'train'. Without a part 'val' a search divides
  the part 'train'.

  Args:
    data: images and labels for training, or a mapping from parts to images and labels. The part
      'train' is needed; 'val' and 'test' are optional.
    name: of the data set, for messages and reports.
    class_names: in the order of the labels. None names each class by its number, up to the largest
      label in 'train'.
    image_size: side to which all images are scaled, or height and width; None keeps their size.
    value_range: the values of black and white.

  Raises:
    ValueError: says which part is wrong, and why.
  """
  pairs = {part: _pair(pair, f'{name} ({part})') for part, pair in _by_part(data).items()}
  arrays = {}
  for part, (images, labels) in pairs.items():
    where = f'{name} ({part})'
    pixels = _as_bytes(_as_array(images, f'{where} images'), where, value_range)
    arrays[f'{part}_images'] = images_lib.resize(pixels, image_size) if image_size else pixels
    arrays[f'{part}_labels'] = _check_labels(_as_array(labels, f'{where} labels'), pixels, where)
  _check_same_shape({part: arrays[f'{part}_images'] for part in pairs}, name)
  if class_names is None:
    class_names = [str(label) for label in range(int(arrays['train_labels'].max()) + 1)]
  if len(class_names) < 2:
    raise ValueError(f'{name} (train) has one class only; at least two are needed')
  return make_dataset(name, arrays, class_names)


def _by_part(data: Any) -> dict[str, Any]:
  """Returns the data as a dict that has 'train' and no unknown part."""
  if not isinstance(data, Mapping):
    return {'train': data}
  if unknown := [part for part in data if part not in _PARTS]:
    raise ValueError(f'data has the part {unknown[0]!r}; allowed are {", ".join(_PARTS)}')
  if 'train' not in data:
    raise ValueError("data has no part 'train'; it needs (images, labels) for training")
  return dict(data)


def _pair(pair: Any, where: str) -> tuple[Any, Any]:
  """Returns images and labels if `pair` holds just these two."""
  if not isinstance(pair, (tuple, list)) or len(pair) != 2:
    raise ValueError(f'{where} must be a pair (images, labels), not {_describe(pair)}')
  return pair[0], pair[1]


def _describe(value: Any) -> str:
  """Returns a few words about a value of the wrong kind."""
  kind = type(value).__name__
  return f'a {kind} of {len(value)} items' if isinstance(value, (tuple, list)) else f'a {kind}'


def _as_array(values: Any, where: str) -> np.ndarray:
  """Returns values as a NumPy array of numbers."""
  try:
    array = np.asarray(values)
  except Exception as error:  # ragged lists and foreign array types raise their own errors
    raise ValueError(f'{where} are not an array ({error})') from error
  if array.dtype == jnp.bfloat16:  # NumPy does not count it among the floating-point types
    array = array.astype(np.float32)
  if array.dtype.kind not in 'biuf':
    raise ValueError(f'{where} have the type {array.dtype}; they must be numbers')
  return array


def _as_bytes(
  images: np.ndarray, where: str, value_range: images_lib.Range | None
) -> UInt8[np.ndarray, 'N H W C']:
  """Checks the shape and range of images, and rounds numbers to bytes."""
  if images.ndim != 4 or images.shape[-1] not in (1, 3):
    raise ValueError(f'{where} has images of shape {images.shape}; it must be [N, H, W, 1 or 3]')
  if 0 in images.shape:
    raise ValueError(f'{where} has no images: their shape is {images.shape}')
  if images.dtype == np.uint8:
    return images
  if images.dtype.kind != 'f' and value_range is None:
    raise ValueError(
      f'{where} has images of {images.dtype}; they must be uint8, or floating-point from 0 to 1, '
      'or data.range must say which values are black and white'
    )
  if images.dtype.kind == 'b':
    raise ValueError(f'{where} has images of bool; they must be numbers')
  low, high = value_range or (0, 1)
  least, greatest = images.min(), images.max()
  if not (np.isfinite(least) and np.isfinite(greatest)):  # NaN spreads to both
    raise ValueError(f'{where} has images with NaN or infinite numbers')
  if least < low or greatest > high:
    hint = '' if value_range else ', or set data.range'
    raise ValueError(
      f'{where} has images from {least:g} to {greatest:g}; {_kind(images)} must be from '
      f'{low:g} to {high:g}{hint}'
    )
  return images_lib.to_bytes(images, (low, high))


def _kind(images: np.ndarray) -> str:
  """Returns the kind of numbers as sentences name it."""
  return 'floating-point ones' if images.dtype.kind == 'f' else 'they'


def _check_labels(labels: np.ndarray, images: np.ndarray, where: str) -> np.ndarray:
  """Returns labels if they are one whole number, at least 0, for each image."""
  if labels.ndim != 1:
    raise ValueError(f'{where} has labels of shape {labels.shape}; it must be [N]')
  if len(labels) != len(images):
    raise ValueError(f'{where} has {len(images)} images and {len(labels)} labels')
  if labels.dtype.kind not in 'iu':
    raise ValueError(f'{where} has labels of {labels.dtype}; they must be integers')
  if labels.min() < 0:
    raise ValueError(f'{where} has the label {labels.min()}; labels count from 0')
  return labels


def _check_same_shape(images: Mapping[str, np.ndarray], name: str) -> None:
  """Raises ValueError unless the images of all parts have the shape of the training images."""
  wanted = images['train'].shape[1:]
  for part, pixels in images.items():
    if pixels.shape[1:] != wanted:
      raise ValueError(
        f'{name} ({part}) has images of shape {pixels.shape[1:]}; the training images have {wanted}'
      )
