"""Small images in class folders, for tests of such folders."""

import pathlib
from typing import Any

from PIL import Image

RED, GREY = (255, 0, 0), (128, 128, 128)


def save(
  file: pathlib.Path,
  color: tuple[int, ...] = RED,
  *,
  size: tuple[int, int] = (8, 8),
  mode: str = 'RGB',
  **options: Any,
) -> pathlib.Path:
  """Writes an image of one colour, and the folders above it; returns the file."""
  file.parent.mkdir(parents=True, exist_ok=True)
  Image.new('RGB', size, color).convert(mode).save(file, **options)
  return file


def make_tree(root: pathlib.Path) -> pathlib.Path:
  """Makes class folders of two and three images."""
  for i in range(2):
    save(root / 'cat' / f'{i}.png', (i, 2, 3))
  for i in range(3):
    save(root / 'dog' / f'{i}.bmp', (200 + i, 2, 3))
  return root
