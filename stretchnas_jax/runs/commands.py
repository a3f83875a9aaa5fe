"""Commands that a program prints: complete, quoted for a shell, and right in every folder."""

import contextlib
import logging
import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.nas_bench_cells import Cell
from stretchnas_jax.config import ConfigDict, files
from stretchnas_jax.data.batches import opening
from stretchnas_jax.machine import parallel
from stretchnas_jax.networks import sizes
from stretchnas_jax.runs import trust as trust_lib
from stretchnas_jax.runs.parts import Parts

# The data sets whose training has a config of another name.
_CONFIGS = {'cifar100': 'cifar10', 'imagenet2012': 'imagenet'}
# Data sets whose test images and size are known.
_WITH_TEST = ('digits', 'cifar10', 'cifar100', 'imagenet2012')
# Fields of the data that belong to the recipe of a training, or to that of a search.
_RECIPE = ('data.fraction', 'data.cutout', 'data.holdout')
# Topologies that are learned at a depth, and trained with it (Huang et al. 2020).
_STRETCHABLE = ('output_subsets', 'output_pairs')
# The benchmark's network, which has neither auxiliary head nor drop path, and its images.
_NAS_BENCH = {
  'model.channels': 16, 'model.num_layers': 5, 'model.auxiliary': False, 'train.drop_path': 0.0,
  'data.cutout': 0,
}  # fmt: skip
# Parts of the training images that are tried, until one of them is a whole image.
_HOLDOUTS = (0.0, 0.1, 0.2, 0.5)


def command(
  program: str,
  words: Sequence[str | pathlib.Path] = (),
  *,
  config: str | None = None,
  fields: Mapping[str, Any] | None = None,
  options: Mapping[str, Any] | None = None,
) -> str:
  """Returns a command that can be pasted into a shell.

  Args:
    program: a module of this package, for example 'train'.
    words: those without a flag.
    config: the value of `--config`.
    fields: of the config, with other values than in its file.
    options: by name; True stands for an option without a value.
  """
  found = [_python(), '-m', f'stretchnas_jax.{program}', *map(str, words)]
  found += [f'--config={config}'] if config else []
  found += [f'--config.{name}={value}' for name, value in (fields or {}).items()]
  for name, value in (options or {}).items():
    found.append(f'--{name}' if value is True else f'--{name}={value}')
  return shlex.join(found)


def _python() -> str:
  """Returns `python` where that starts this interpreter, else its path."""
  found = shutil.which('python')
  same = found and os.path.dirname(found) == os.path.dirname(sys.executable)
  return 'python' if same or not sys.executable else sys.executable


def train_command(
  config: ConfigDict, path: pathlib.Path, genotype: AnyGenotype, parts: Parts | None = None
) -> str:
  """Returns the command that trains the cell of a search on its images.

  Args:
    config: of the search.
    path: its folder.
    genotype: the cell.
    parts: own objects of the search. Those that came from Python are in no command, and then the
      call is returned that trains.
  """
  parts = parts or Parts()
  more = ', parts=...' if parts.all_operations() and parts.source is None else ''
  more += ', data=...' if parts.data is not None else ''
  if more:
    return f'stretchnas_jax.run_train(config, {f"{path}-trained"!r}, {str(path)!r}{more})'
  name, fields = _train_fields(config, genotype, parts)
  options = {'workdir': f'{path}-trained', 'genotype': path / 'genotype.json', **trust(parts)}
  return command('train', config=name, fields=fields, options=options)


def trust(parts: Parts) -> dict[str, bool]:
  """Returns the option that a command on a run with own parts needs on this machine, if any.

  A run is trusted where it was made, unless nothing can be kept in the user's cache folder.

  Args:
    parts: own objects of the run.
  """
  needed = parts.source is not None and not trust_lib.is_trusted(parts.source.digest)
  return {'trust': True} if needed else {}


def _train_fields(
  config: ConfigDict, genotype: AnyGenotype, parts: Parts | None = None
) -> tuple[str, dict[str, Any]]:
  """Returns the config of a training after a search: its name, and the fields that differ.

  Args:
    config: of the search.
    genotype: the cell that it found.
    parts: own objects of the search.
  """
  name = f'train_{_CONFIGS.get(config.data.name, config.data.name)}'
  name = name if name in files.named() else 'train_folder'
  train = files.load_module(files.named()[name]).get_config()
  wanted = config_lib.flatten(config)
  fields: dict[str, Any] = {}
  for field, value in config_lib.flatten(train).items():
    shared = field.startswith(('data.', 'parallel.')) or field == 'model.stem'
    if not shared or field in _RECIPE or field not in wanted or wanted[field] in (None, value):
      continue
    fields[field] = wanted[field]
  if config.data.path:
    fields['data.path'] = os.path.abspath(os.path.expanduser(config.data.path))
  if config.topology.kind in _STRETCHABLE and _layers(config) != train.model.num_layers:
    fields['model.num_layers'] = _layers(config)
  train.update_from_flattened_dict(fields)
  with contextlib.suppress(ValueError, OSError):  # the command itself says what is wrong
    fields |= _needed_fields(train, genotype, parts or Parts())
  if isinstance(genotype, Cell):
    fields |= _NAS_BENCH
  return name, fields


def _layers(config: ConfigDict) -> int:
  """Returns the number of cells in the network that searched, in its last phase."""
  last = config.search.phases[-1] if config.search.phases else {}
  return last.get('model.num_layers', config.model.num_layers)


def _needed_fields(train: ConfigDict, genotype: AnyGenotype, parts: Parts) -> dict[str, Any]:
  """Returns fields without which a training on these images cannot run."""
  fields: dict[str, Any] = {}
  size = train.data.image_size
  if train.data.name not in _WITH_TEST:
    count = parallel.Devices(train.parallel.backend).count
    holdout, images, size = _trial(train, count)
    fields |= {'data.holdout': holdout} if holdout else {}
    if images < train.train.batch_size:
      fields['train.batch_size'] = max(1, images // count) * count
  usual = sizes.IMAGE_SHAPES[train.model.stem][0]
  if size and train.model.auxiliary and min([size] if isinstance(size, int) else size) < usual:
    fields |= _without_head(train, genotype, size, parts)
  return fields


def _trial(train: ConfigDict, batch_size: int) -> tuple[float, int, tuple[int, ...]]:
  """Returns the hold-out that a training needs, its number of images, and their height and width.

  Args:
    train: the config of the training.
    batch_size: the smallest one.
  """
  trial = train.copy_and_resolve_references()
  trial.train.batch_size = batch_size
  for holdout in _HOLDOUTS:
    trial.data.holdout = holdout
    try:
      with _silent(), contextlib.closing(opening.open_training(trial)) as feeds:
        if feeds.test is not None or feeds.val is not None:
          return holdout, feeds.sizes['train'], tuple(feeds.image_shape[:2])
    except ValueError:  # the part is less than an image
      if holdout == _HOLDOUTS[-1]:
        raise
  raise ValueError('no part of the images can be held out')


@contextlib.contextmanager
def _silent() -> Iterator[None]:
  """Keeps back the remarks on the images; the search has made them."""
  before = logging.root.manager.disable
  logging.disable(logging.WARNING)
  try:
    yield
  finally:
    logging.disable(before)


def _without_head(
  train: ConfigDict, genotype: AnyGenotype, size: Any, parts: Parts
) -> dict[str, bool]:
  """Returns the field that leaves out the auxiliary head where images are too small for it."""
  height, width = (size, size) if isinstance(size, int) else size
  model = train.model
  try:
    sizes.measure(
      genotype, model.channels, model.num_layers, 2, model.stem, True, (height, width, 3),
      operations=parts.all_operations(),
    )  # fmt: skip
  except ValueError:
    return {'model.auxiliary': False}
  return {}
