"""Batches of image files that threads decode, and the options of a stream."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.data.batches import color_jitter, order
from stretchnas_jax.data.datasets import decoding
from stretchnas_jax.data.datasets import images as images_lib
from stretchnas_jax.data.datasets.encoded import EncodedImages

IMAGE_SIZE = 224
# Of ImageNet's training images, as torchvision prints them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Options(NamedTuple):
  """How a stream treats its images."""

  image_size: images_lib.Size = IMAGE_SIZE
  """The side of an image, or height and width."""
  scale: tuple[float, float] = (0.08, 1.0)
  """Least and greatest area of a crop, relative to the image."""
  ratio: tuple[float, float] = (3 / 4, 4 / 3)
  """Least and greatest width of a crop, relative to its height."""
  flip: bool = True
  jitter: color_jitter.Strengths | None = color_jitter.Strengths()
  """How far colours change; None leaves them as they are."""
  cutout: int = 0
  """Side of the square that is cut out, in pixels; 0 for none."""
  mean: tuple[float, ...] = IMAGENET_MEAN
  std: tuple[float, ...] = IMAGENET_STD
  """One number for each channel: three, or one where all images are grey."""
  workers: int = 0
  """Threads that decode; 0 for one per core."""
  on_bad_image: str = 'error'
  """'error', or 'skip' to go on without images that cannot be read."""
  process: tuple[int, int] = (0, 1)
  """Number of this process, which decodes its share of each batch, and number of processes."""
  value_range: images_lib.Range | None = None
  """The values of black and white in images of more than 8 bits, see `images.to_rgb`."""

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of the images."""
    return (*images_lib.height_and_width(self.image_size), len(self.mean))

  def grey(self) -> 'Options':
    """Returns the options for images of one channel, with the means of ImageNet's statistics."""
    mean, std = sum(IMAGENET_MEAN) / 3, sum(IMAGENET_STD) / 3
    return self._replace(mean=(mean,), std=(std,))


class Pixels(NamedTuple):
  """A chunk of batches on the host, or one batch without the axis T on a device."""

  images: UInt8[AnyArray, '*T B H W C']
  labels: Int32[AnyArray, '*T B']


class BatchDecoder:
  """Decodes the rows of batches that belong to this process.

  Attributes:
    labels: of all images.
    rows: the rows of the global batch that belong to this process.
  """

  def __init__(self, encoded: EncodedImages, batch_size: int, options: Options) -> None:
    """Starts no work yet.

    Args:
      encoded: the images.
      batch_size: of the global batch.
      options: of the stream.

    Raises:
      ValueError: the batch does not divide by the number of processes.
    """
    self.labels = encoded.labels
    self.rows = order.own_rows(batch_size, options.process)
    self._shape = options.image_shape
    self._decoder = decoding.Decoder(
      encoded, workers=options.workers, on_bad_image=options.on_bad_image
    )

  def start(
    self,
    numbers: Int[np.ndarray, 'K'],
    read: decoding.Read,
    instead_of: Callable[[int], Int[np.ndarray, '_']] | None = None,
  ) -> decoding.Work:
    """Begins to decode a batch; see `decoding.Decoder.start`.

    Args:
      numbers: the images of the batch.
      read: reads the image at a place of the batch.
      instead_of: returns the images that may replace an image that cannot be read.
    """
    return self._decoder.start(numbers, read, self._shape[:2], instead_of)

  def collect(
    self, works: Sequence[decoding.Work], length: int
  ) -> tuple[Pixels, Float32[np.ndarray, 'length B']]:
    """Waits for batches and joins them to a chunk.

    Args:
      works: at most `length` batches. A batch may have fewer images than rows.
      length: T of the chunk.

    Returns:
      The chunk, with zeros in rows without an image. For each row 1 if it holds a readable image,
      else 0.
    """
    shape = length, self.rows.stop - self.rows.start
    images = np.zeros((*shape, *self._shape), np.uint8)
    labels, valid = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for t, work in enumerate(works):
      filled = slice(len(work.numbers))
      pixels, valid[t, filled] = work.result()
      images[t, filled] = pixels[..., : self._shape[-1]]  # a grey image has three equal channels
      labels[t, filled] = self.labels[work.numbers]
    return Pixels(images, labels), valid

  def substitutes(self, part: Int[np.ndarray, '_'], number: int) -> Int[np.ndarray, '_']:
    """Returns the other images of the same class and part.

    Args:
      part: sorted numbers of the images of the part.
      number: the image that cannot be read.

    Returns:
      First the images after `number` in their order, then those before it.
    """
    same = part[self.labels[part] == self.labels[number]]
    return np.concatenate([same[same > number], same[same < number]])

  def close(self) -> None:
    """Drops the work that has not begun and waits for the rest."""
    self._decoder.close()
