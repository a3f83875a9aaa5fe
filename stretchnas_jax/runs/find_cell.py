"""Finds a cell by a name: of the zoo, of a file, of a search, of an epoch, or drawn at random."""

import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

from stretchnas_jax.cells import genotype, genotype_text, random_cells, zoo
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import json_files
from stretchnas_jax.runs import parts as parts_lib

_MAX_BYTES = 4 * genotype_text.MAX_CHARACTERS
_RANDOM, _RANDOM_OPERATIONS, _BEST = 'random:', 'random_ops:', 'best:'


def run_of(name_or_path: str | os.PathLike[str]) -> pathlib.Path | None:
  """Returns the folder of the run that a cell comes from, or None; see `genotype_from`."""
  text = str(name_or_path)
  if text in zoo.GENOTYPES or text.startswith((_RANDOM, _RANDOM_OPERATIONS)):
    return None
  if text.startswith(_BEST):
    return _best_run(pathlib.Path(text.removeprefix(_BEST))).absolute()
  path = pathlib.Path(text)
  if not path.exists() and '@' in text:
    path = pathlib.Path(text.rpartition('@')[0])
  folder = path if path.is_dir() else path.parent
  return folder.absolute() if (folder / 'config.json').is_file() else None


def own_operations(name_or_path: str | os.PathLike[str]) -> Mapping[str, Callable] | None:
  """Returns the own operations of the run that a cell comes from, or None.

  Raises:
    ValueError: the run has own operations, and they cannot be had; see `parts.of_run`.
  """
  folder = run_of(name_or_path)
  if folder is None or not parts_lib.operation_names(folder):
    return None
  return parts_lib.of_run(folder).operations


def genotype_from(
  name_or_path: str | os.PathLike[str], operations: Sequence[str] = ()
) -> genotype.Genotype:
  """Returns the genotype with a name.

  Args:
    name_or_path: one of
      - a key of `zoo.GENOTYPES`,
      - a file in the native JSON form or in the text form of DARTS,
      - the folder of a search or a training, which holds `genotype.json`,
      - `FOLDER@EPOCH`, the cell that a search derived after an epoch, counted from 1,
      - `random:SEED`, a random cell of the DARTS space,
      - `random_ops:CELL:SEED`, random operations on the edges of a cell; CELL is any of these,
      - `best:FOLDER`, the cell of the training in a folder of FOLDER with the highest validation
        accuracy at its end.
    operations: names of your own operations. The own operations of a run are known in its folder.

  Raises:
    FileNotFoundError: there is no file, folder or cell with this name.
    ValueError: the file holds no genotype, or the seed or the epoch is not one.
  """
  text = str(name_or_path)
  if text in zoo.GENOTYPES:
    return zoo.GENOTYPES[text]
  path = pathlib.Path(name_or_path)
  if path.is_dir():
    path = path / 'genotype.json'
    if not path.is_file():
      raise FileNotFoundError(f'{path.parent} holds no genotype.json: no search has finished there')
  if path.exists():
    return _read_file(path, operations)
  return _from_rule(text)


def _from_rule(text: str) -> genotype.Genotype:
  """Returns the genotype of a text that names no file: a random cell, the best, or an epoch's."""
  if text.startswith(_RANDOM):
    seed = _whole_number(text.removeprefix(_RANDOM), 'the seed', text)
    return random_cells.random_cell(seed)
  if text.startswith(_RANDOM_OPERATIONS):
    return _random_operations(text)
  if text.startswith(_BEST):
    return genotype_from(_best_run(pathlib.Path(text.removeprefix(_BEST))))
  folder, _, epoch = text.rpartition('@')
  if folder:
    return _after_epoch(pathlib.Path(folder), _whole_number(epoch, 'the epoch', text))
  names = ', '.join(sorted(zoo.GENOTYPES))
  raise FileNotFoundError(f'{text!r} is neither a file nor a cell of the zoo: {names}')


def _read_file(path: pathlib.Path, operations: Sequence[str]) -> genotype.Genotype:
  """Returns the genotype of a file in the native or in DARTS' form."""
  if not path.is_file():
    raise ValueError(f'{path} is not a regular file')
  size = path.stat().st_size
  if size > _MAX_BYTES:
    raise ValueError(f'{path} has {size} bytes; a genotype has at most {_MAX_BYTES}')
  try:
    text = path.read_text('utf-8')
    is_json = text.lstrip().startswith('{')
    read = genotype.from_json if is_json else genotype.from_darts_text
    return read(text, (*operations, *parts_lib.operation_names(path.parent)))
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _random_operations(text: str) -> genotype.Genotype:
  """Returns the genotype of `random_ops:CELL:SEED`."""
  cell, _, seed = text.removeprefix(_RANDOM_OPERATIONS).rpartition(':')
  if not cell:
    raise ValueError(f'{text!r} names no cell or no seed; the form is random_ops:CELL:SEED')
  number = _whole_number(seed, 'the seed', text)
  return random_cells.random_operations(genotype_from(cell), number)


def _best_run(folder: pathlib.Path) -> pathlib.Path:
  """Returns the finished training in a folder with the best validation accuracy."""
  paths = sorted(path.parent for path in folder.glob('*/config.json'))
  if not paths:
    raise FileNotFoundError(f'{folder} holds no folders of trainings')
  accuracies = [_validation_accuracy(path) for path in paths]
  return paths[accuracies.index(max(accuracies))]  # the first of equal ones


def _validation_accuracy(path: pathlib.Path) -> float:
  """Returns the validation accuracy of a finished training, after its last epoch."""
  if not (path / 'result.json').is_file():
    raise FileNotFoundError(f'{path} holds no result.json: its training has not finished')
  accuracy = json_files.read_object(path / 'result.json').get('last_val_accuracy')
  if accuracy is None:
    raise ValueError(f'{path} has no last_val_accuracy: set config.data.holdout, for example 0.1')
  with faults.reading(path / 'result.json'):
    return float(accuracy)


def _after_epoch(folder: pathlib.Path, epoch: int) -> genotype.Genotype:
  """Returns the cell that the search in a folder derived after an epoch, counted from 1."""
  path = folder / 'genotypes.jsonl'
  if not path.is_file():
    raise FileNotFoundError(f'{folder} holds no genotypes.jsonl: no search has run there')
  history = {line.get('epoch'): line.get('genotype') for line in json_files.read_lines(path)}
  if epoch not in history:
    known = ', '.join(map(str, history)) or 'none'
    raise ValueError(f'{path} holds no cell of epoch {epoch}; its epochs are {known}')
  try:
    if not isinstance(history[epoch], dict):
      raise ValueError('the line holds no genotype')
    return genotype.Genotype.from_dict(history[epoch], parts_lib.operation_names(folder))
  except ValueError as error:
    raise ValueError(f'{path}, epoch {epoch}: {error}') from error


def _whole_number(text: str, name: str, where: str) -> int:
  """Returns a number in a text.

  Args:
    text: its digits.
    name: the name of the number, for an error.
    where: the whole text, for an error.
  """
  if not (text.isascii() and text.isdigit() and len(text) < 20):
    raise ValueError(f'{name} in {where!r} is {text!r}; it must be a whole number')
  return int(text)


def target_of(text: str) -> float:
  """Returns a wanted number of parameters: 3500000.0 for '3.5e6'.

  Raises:
    ValueError: the text is not a positive number.
  """
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 < value < math.inf:
    raise ValueError(f'--target-params is {text!r}; it must be a positive number such as 3.5e6')
  return value
