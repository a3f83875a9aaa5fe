"""Looks at a folder of images before a run: `python -m stretchnas_jax.check_data FOLDER`."""

import ast
import contextlib
import types
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from stretchnas_jax import config as config_lib
from stretchnas_jax.cli import app, config_flags
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches import opening, sample_sheet
from stretchnas_jax.data.datasets import folder, image_limits, listing, survey
from stretchnas_jax.machine import output
from stretchnas_jax.runs import build

OPTIONS = (
  app.Option('config', 'train_folder', 'config whose size, crops, flips and cutout are shown'),
  app.Option('image-size', None, 'pixels a side, or HEIGHT,WIDTH, in place of data.image_size'),
  app.Option('range', None, 'LOW,HIGH: black and white in images of more than 8 bits'),
  app.Option('out', 'samples.png', 'sheet of training images, changed as a run changes them'),
)
_BATCH_SIZE = 32
_DEFAULT_SIZE = 32


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Checks the options and lists the files; returns the function that reads and prints."""
  found = folder.find(args.folder)
  config, path = _config(args, found), sample_sheet.check_path(args.out)
  size, value_range = opening.image_size(config.data), opening.value_range(config.data)
  image_limits.set_most_pixels(config.data.max_pixels)

  def work() -> None:
    """Reads all images, prints the facts, and writes the sheet."""
    seen = survey.survey(found, image_size=size or _DEFAULT_SIZE, value_range=value_range)
    output.result('\n'.join(survey.lines(seen)))
    survey.check_usable(seen, config.data.on_bad_image)
    open_feeds = opening.open_search if 'search' in config else opening.open_training
    with contextlib.closing(open_feeds(config)) as feeds:
      output.result(f'mean      {_numbers(feeds.mean)}; deviation {_numbers(feeds.std)}')
      sample_sheet.write(feeds, path)
    output.result(f'sheet     {path}')

  return work


def _config(args: types.SimpleNamespace, found: listing.Listing) -> ConfigDict:
  """Returns the config of a run on the folder, with a batch that fits any part of it."""
  config = config_flags.load_config(args.config)
  config.data.stream = opening.is_streamed(config.data)
  config.data.name, config.data.path = 'folder', args.folder
  for field, text in (('image_size', getattr(args, 'image-size')), ('range', args.range)):
    if text is not None:
      config.data[field] = _literal(f'--{field.replace("_", "-")}', text)
  kind = 'search' if 'search' in config else 'train'
  smallest = min(len(found.files[part]) for part in ('train', 'val') if part in found.files) // 3
  config[kind].batch_size = max(1, min(_BATCH_SIZE, smallest))
  config_lib.validate(config, config_lib.default_config(kind), build.CHOICES)
  return config


def _literal(flag: str, text: str) -> object:
  """Returns a number, or several with commas between them."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError) as error:
    raise ValueError(f'{flag}={text[:200]}: it must be a number, or two numbers') from error


def _numbers(values: Float32[np.ndarray, 'C']) -> str:
  return ', '.join(f'{value:.4f}' for value in values)


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('folder',))


if __name__ == '__main__':
  main()
