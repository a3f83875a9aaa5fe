"""Finds a cell by a name: of the zoo, of a file, of a search, of an epoch, or drawn at random."""

import codecs
import contextlib
import logging
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

from stretchnas_jax.cells import genotype, genotype_dialects, genotype_text, random_cells, zoo
from stretchnas_jax.config import names
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import json_files
from stretchnas_jax.runs import parts as parts_lib

# A log may be long; of a longer one only the end is searched for a genotype.
_MAX_BYTES, _READ_BYTES = 2**30, 4_000_000
_RANDOM, _RANDOM_OPERATIONS, _BEST = 'random:', 'random_ops:', 'best:'
# Files in which other programs leave the cell that a search found.
_OTHER_FILES = ('genotype.txt', 'log.txt')
# Marks of a genotype that is given itself, in place of its name.
_TEXT = re.compile(r'^\s*[(\[{]|[Gg]enotype\w*\s*\(|[\[({\n].*normal|~\d+\||, Value: ', re.DOTALL)


def run_of(name_or_path: str | os.PathLike[str]) -> pathlib.Path | None:
  """Returns the folder of the run that a cell comes from, or None; see `genotype_from`."""
  text = str(name_or_path)
  if text in zoo.GENOTYPES or text.startswith((_RANDOM, _RANDOM_OPERATIONS)):
    return None
  if text.startswith(_BEST):
    return _best_run(pathlib.Path(text.removeprefix(_BEST))).absolute()
  path = _existing(text)
  if path is None:
    path = _existing(text.rpartition('@')[0]) or pathlib.Path(_split_name(text)[0] or os.devnull)
  folder = path if path.is_dir() else path.parent
  return folder.absolute() if (folder / 'config.json').is_file() else None


def own_operations(
  name_or_path: str | os.PathLike[str], trust: bool = False
) -> Mapping[str, Callable] | None:
  """Returns the own operations of the run that a cell comes from, or None.

  Args:
    name_or_path: names the cell.
    trust: run the program that the folder of the run keeps, from wherever it came.

  Raises:
    ValueError: the run has own operations, and they cannot be had; see `parts.of_run`.
  """
  folder = run_of(name_or_path)
  if folder is None or not parts_lib.operation_names(folder):
    return None
  return parts_lib.of_run(folder, trust=trust).operations


def genotype_from(
  name_or_path: str | os.PathLike[str], operations: Sequence[str] = ()
) -> genotype.AnyGenotype:
  """Returns the genotype with a name; logs the form of a text that was read.

  Args:
    name_or_path: one of
      - a key of `zoo.GENOTYPES`,
      - a file with a genotype in any form, see `genotype.read_form`: also a log, of which the last
        one is read,
      - `FILE:NAME`, a genotype of a file with several,
      - the folder of a search or a training, which holds `genotype.json`,
      - `FOLDER@EPOCH`, the cell that a search derived after an epoch, counted from 1,
      - `random:SEED`, a random cell of the DARTS space,
      - `random_ops:CELL:SEED`, random operations on the edges of a cell; CELL is any of these,
      - `best:FOLDER`, the cell of the training in a folder of FOLDER with the highest validation
        accuracy at its end,
      - the text of a genotype itself.
    operations: names of your own operations. The own operations of a run are known in its folder.

  Raises:
    FileNotFoundError: there is no file, folder or cell with this name.
    ValueError: the file holds no genotype, or the seed or the epoch is not one.
  """
  text = str(name_or_path)
  if text in zoo.GENOTYPES:
    return zoo.GENOTYPES[text]
  if (path := _existing(text)) is not None:
    return _read_file(_file_in(path) if path.is_dir() else path, operations)
  if text.startswith((_RANDOM, _RANDOM_OPERATIONS, _BEST)):
    return _from_rule(text)
  file, name = _split_name(text)
  if file:
    return _read_file(pathlib.Path(file), operations, name)
  folder, _, epoch = text.rpartition('@')
  if _TEXT.search(text) and _existing(folder) is None:
    return _said('the given text', genotype.read_form(text, operations=operations))
  if folder:
    return _after_epoch(pathlib.Path(folder), _whole_number(epoch, 'the epoch', text))
  raise FileNotFoundError(_not_found(text))


def _existing(text: str) -> pathlib.Path | None:
  """Returns the path of a file or folder, or None; a text that can be no path names none.

  `~` is the user's home: a shell leaves it as it is after `--genotype=`.
  """
  with contextlib.suppress(OSError, ValueError):
    for path in (text, os.path.expanduser(text)):
      if path and os.path.exists(path):
        return pathlib.Path(path)
  return None


def _split_name(text: str) -> tuple[str, str | None]:
  """Returns the file and the name of `FILE:NAME`; an empty text where there is no such file."""
  file, _, name = text.rpartition(':')
  return (file, name) if os.path.isfile(file) else ('', None)


def _file_in(folder: pathlib.Path) -> pathlib.Path:
  """Returns the file of a folder that holds its cell."""
  path = folder / 'genotype.json'
  if path.is_file():
    return path
  found = [folder / name for name in _OTHER_FILES if (folder / name).is_file()]
  if found and not (folder / 'config.json').exists():
    return found[0]
  hint = ''
  if (folder / 'genotypes.jsonl').is_file():
    hint = f'; {folder}@EPOCH names the cell after an epoch that is done'
  elif runs := sorted(folder.glob('*/genotype.json'))[:8]:
    hint = f'; name one of its runs: {names.some(str(run.parent) for run in runs)}'
  raise FileNotFoundError(f'{folder} holds no genotype.json: no search has finished there{hint}')


def _not_found(text: str) -> str:
  """Returns the sentence for a text that names no cell."""
  shown = genotype_text.shorten(text)
  looks_like_file = os.sep in text or pathlib.PurePath(text[:255]).suffix in (
    '.json',
    '.py',
    '.txt',
  )
  hint = names.did_you_mean(text, zoo.GENOTYPES)
  if looks_like_file and not hint:
    return f'{shown} is neither a file nor a cell of the zoo'
  known = f'its cells are {names.some(zoo.GENOTYPES)} (`describe zoo` lists them)'
  return f'{shown} is neither a file nor a cell of the zoo; {hint or known}'


def _from_rule(text: str) -> genotype.AnyGenotype:
  """Returns the genotype of a text with a rule: a random cell, or the best."""
  if text.startswith(_RANDOM):
    seed = _whole_number(text.removeprefix(_RANDOM), 'the seed', text)
    return random_cells.random_cell(seed)
  if text.startswith(_RANDOM_OPERATIONS):
    return _random_operations(text)
  return genotype_from(_best_run(pathlib.Path(text.removeprefix(_BEST))))


def _read_file(
  path: pathlib.Path, operations: Sequence[str], name: str | None = None
) -> genotype.AnyGenotype:
  """Returns the genotype of a file, in any form.

  Args:
    path: of the file.
    operations: names of own operations.
    name: of one genotype among several.
  """
  if not path.is_file():
    raise ValueError(f'{path} is not a regular file')
  size = path.stat().st_size
  if size > _MAX_BYTES:
    raise ValueError(f'{path} has {size} bytes; a genotype has at most {_MAX_BYTES}')
  with path.open('rb') as file:
    start = file.read(3)
    file.seek(max(0, size - _READ_BYTES))
    text = _decoded(file.read(_READ_BYTES), start)
  try:
    known = (*operations, *parts_lib.operation_names(path.parent))
    found = _said(str(path), genotype.read_form(text, name, known))
  except ValueError as error:
    shown = str(error).replace('FILE:', f'{path}:')
    raise ValueError(f'{path}: {shown}') from error
  _check_result(path, found)
  return found


def _check_result(path: pathlib.Path, found: genotype.AnyGenotype) -> None:
  """Raises ValueError where the cell of a finished run is not that of its result."""
  result = path.with_name('result.json')
  if path.name != 'genotype.json' or not result.is_file():
    return
  known = json_files.read_object(result).get('genotype')
  if isinstance(known, dict) and known != json_files.plain(found.to_dict()):
    raise ValueError(
      f'{path} holds another cell than {result.name} beside it: one of them was changed after the '
      'run; remove the wrong file, or copy the cell elsewhere'
    )


def _decoded(data: bytes, start: bytes) -> str:
  """Returns the text of a file; Windows' shell writes UTF-16. Other bytes become question marks.

  Args:
    data: the end of the file.
    start: its first bytes.
  """
  is_wide = start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
  encoding = 'utf-16-be' if start[:2] == codecs.BOM_UTF16_BE else 'utf-16-le'
  return data.decode(encoding if is_wide else 'utf-8', errors='replace')


def _said(where: str, found: genotype.Reading) -> genotype.AnyGenotype:
  """Logs the form of a genotype that was read, if it is not ours; returns the genotype.

  Args:
    where: the text came from.
    found: the genotype with its form.
  """
  notes = ''.join(f'; {note}' for note in found.notes)
  if notes or found.form != genotype_dialects.NATIVE:
    logging.info('%s: a cell in %s%s', where, found.form, notes)
  return found.genotype


def _random_operations(text: str) -> genotype.AnyGenotype:
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


def _after_epoch(folder: pathlib.Path, epoch: int) -> genotype.AnyGenotype:
  """Returns the cell that the search in a folder derived after an epoch, counted from 1."""
  path = folder / 'genotypes.jsonl'
  if not path.is_file():
    raise FileNotFoundError(f'{folder} holds no genotypes.jsonl: no search has run there')
  history = {line.get('epoch'): line.get('genotype') for line in json_files.read_lines(path)}
  if epoch not in history:
    known = names.some(map(str, history)) or 'none'
    raise ValueError(f'{path} holds no cell of epoch {epoch}; its epochs are {known}')
  try:
    if not isinstance(history[epoch], dict):
      raise ValueError('the line holds no genotype')
    return genotype.from_fields(history[epoch], parts_lib.operation_names(folder))
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
