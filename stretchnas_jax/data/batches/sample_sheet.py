"""Draws a sheet of training images, changed as a run changes them."""

import collections
import pathlib

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, PngImagePlugin

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.data.batches import feeds as feeds_lib

_COLUMNS, _ROWS = 8, 10  # images of a class, and classes
_SIDE, _GAP, _LABEL = 72, 4, 14  # pixels of an image on the sheet, between images, and of a name
_LABEL_CHARACTERS = 60
_MARK = ('Software', 'stretchnas_jax check_data')  # tells our files from files of others
_MOST_STEPS = 50


def write(feeds: feeds_lib.Feeds, path: str | pathlib.Path, *, seed: int = 0) -> None:
  """Writes a PNG with a row of training images for each of the first classes.

  Args:
    feeds: of a search or a training; its first epoch is shown.
    path: of the file.
    seed: of the random changes.
  """
  rows = _collect(feeds, seed)
  height, width = feeds.image_shape[:2]
  scale = max(1, round(_SIDE / max(height, width)))
  cell = height * scale + _GAP, width * scale + _GAP
  size = _COLUMNS * cell[1] + _GAP, len(rows) * (cell[0] + _LABEL) + _GAP
  sheet = Image.new('RGB', size, 'white')
  draw = ImageDraw.Draw(sheet)
  for row, (label, pictures) in enumerate(rows.items()):
    top = row * (cell[0] + _LABEL) + _GAP
    draw.text((_GAP, top), _plain(feeds.class_names[label]), fill='black')
    for column, pixels in enumerate(pictures):
      large = np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)
      picture = Image.fromarray(large[..., 0] if large.shape[-1] == 1 else large)
      sheet.paste(picture, (_GAP + column * cell[1], top + _LABEL))
  mark = PngImagePlugin.PngInfo()
  mark.add_text(*_MARK)
  sheet.save(path, 'PNG', pnginfo=mark)


def check_path(path: str | pathlib.Path) -> pathlib.Path:
  """Returns a path to which a sheet may be written.

  Args:
    path: of the file.

  Raises:
    ValueError: there is no such folder, or the file is not a sheet that this program has written.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix.lower() != '.png':
    raise ValueError(f'--out is {str(path)!r}; it must end in .png')
  if not path.absolute().parent.is_dir():
    raise ValueError(f'--out is {str(path)!r}; there is no folder {str(path.parent)!r}')
  if path.exists() and not _is_sheet(path):
    raise ValueError(f'--out is {str(path)!r}, which this command has not written; choose another')
  return path


def _is_sheet(path: pathlib.Path) -> bool:
  """Tells whether `write` has written a file."""
  try:
    with Image.open(path, formats=('PNG',)) as image:
      return image.info.get(_MARK[0]) == _MARK[1]
  except Exception:  # Pillow raises a dozen types for files that are no PNG
    return False


def _collect(feeds: feeds_lib.Feeds, seed: int) -> dict[int, list[UInt8[np.ndarray, 'H W C']]]:
  """Returns the first training images of the first classes, in the order of the classes."""
  shown = [i for i, count in enumerate(feeds.class_counts['train']) if count][:_ROWS]
  found = collections.defaultdict(list)
  examples = jax.jit(feeds.train.examples)
  for step in range(min(feeds.train.steps_per_epoch, _MOST_STEPS)):
    batch = jax.tree.map(lambda x: x[0], feeds.train.chunk(0, step, 1, 1)['train'])
    positions = np.arange(jax.tree.leaves(batch)[0].shape[0])
    key = jax.random.fold_in(jax.random.key(seed), step)
    images, labels = examples(feeds.train.data, batch, key, positions)
    for pixels, label in zip(_as_bytes(feeds, images), np.asarray(labels).tolist()):
      if label in shown and len(found[label]) < _COLUMNS:
        found[label].append(pixels)
    if all(len(found[label]) == _COLUMNS for label in shown):
      break
  return {label: found[label] for label in shown if found[label]}


def _as_bytes(
  feeds: feeds_lib.Feeds, images: Float[AnyArray, 'B H W C']
) -> UInt8[np.ndarray, 'B H W C']:
  """Returns normalised images as bytes; the square of a cutout has the colour of the mean."""
  scaled = np.asarray(images, np.float32) * feeds.std + feeds.mean
  return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def _plain(text: str) -> str:
  """Returns a text that Pillow's own font can draw."""
  return ''.join(c if ' ' <= c <= '~' else '?' for c in text)[:_LABEL_CHARACTERS]
