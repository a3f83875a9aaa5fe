"""Small images for tests of streams, and feeds of them."""

import contextlib
import itertools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from stretchnas_jax.data.batches import stream_batches, streaming
from stretchnas_jax.data.datasets import encoded

PLAIN = stream_batches.Options(image_size=6, workers=2, jitter=None)
NAMES = ['ant', 'bee', 'cat']


def color(number: int) -> tuple[int, int, int]:
  """Returns the colour of an image, so that any crop of it tells its number."""
  return number + 1, 255 - number, 128


def save(file: pathlib.Path, pixels: np.ndarray) -> None:
  """Writes an image, and the folders above it."""
  file.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(file)


def make_tree(path: pathlib.Path) -> pathlib.Path:
  """Makes 3 classes of 7 training images of one colour each, and 3 + 2 + 0 test images."""
  number = itertools.count()
  for part, counts in ('train', (7, 7, 7)), ('test', (3, 2, 0)):
    for name, count in zip(NAMES, counts):
      for i in range(count):
        pixels = np.full((12, 10, 3), color(next(number)), np.uint8)
        save(path / part / name / f'{i}.png', pixels)
  return path


@contextlib.contextmanager
def closed_feeds() -> Iterator[Callable[..., streaming.StreamFeed]]:
  """Yields a function that makes feeds; they are closed at the end."""
  with contextlib.ExitStack() as stack:

    def make(images, batch_size=4, options=PLAIN, *, parts=None, seed=0):
      parts = parts or {'train': np.arange(len(images.labels))}
      feed = streaming.StreamFeed(images, parts, batch_size, options, seed=seed)
      return stack.enter_context(contextlib.closing(feed))

    yield make


def load(tree: pathlib.Path) -> encoded.EncodedDataset:
  """Returns the encoded images of class folders."""
  return encoded.load('folder', path=str(tree))


def numbers_of(pixels: np.ndarray) -> np.ndarray:
  """Returns the numbers of images of one colour from their crops `[..., S, S, 3]`."""
  assert (pixels == pixels[..., :1, :1, :]).all()
  return pixels[..., 0, 0, 0].astype(int) - 1
