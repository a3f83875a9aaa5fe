"""What a person names on a command line, as objects."""

import json
import math
import pathlib

from stretchnas_jax.cells import genotype, genotype_text, random_cells, zoo
from stretchnas_jax.runs import json_files

MAX_BYTES = 4 * genotype_text.MAX_CHARACTERS
RANDOM, RANDOM_OPERATIONS, BEST = 'random:', 'random_ops:', 'best:'


def genotype_from(name_or_path):
  """A genotype by its name in the zoo, from a file, from a search, or drawn at random.

  Args:
    name_or_path: a key of `zoo.GENOTYPES`; a file in the native JSON form or in DARTS' text form;
      the workdir of a search, whose `genotype.json` is meant; `WORKDIR@EPOCH`, what the search
      would have derived after that epoch; `random:SEED`, a cell of the DARTS space;
      `random_ops:CELL:SEED`, random operations on the edges of a cell named in any of these ways;
      or `best:FOLDER`, of the trainings in the folders of FOLDER the cell of the one with the
      highest validation accuracy at its end.

  Returns:
    A `Genotype`.

  Raises:
    FileNotFoundError: there is nothing of that name.
    ValueError: the file holds no genotype, or the seed or the epoch is none that can be.
  """
  text = str(name_or_path)
  if text in zoo.GENOTYPES:
    return zoo.GENOTYPES[text]
  path = pathlib.Path(name_or_path)
  if path.is_dir():
    if not (path / 'genotype.json').is_file():
      raise FileNotFoundError(f'{path} holds no genotype.json: no search has finished there')
    path = path / 'genotype.json'
  if path.exists():
    return read_file(path)
  if text.startswith((RANDOM, RANDOM_OPERATIONS)):
    return drawn(text)
  if text.startswith(BEST):
    return best_of(pathlib.Path(text.removeprefix(BEST)))
  folder, _, epoch = text.rpartition('@')
  if folder:
    return after_epoch(pathlib.Path(folder), epoch)
  names = ', '.join(sorted(zoo.GENOTYPES))
  raise FileNotFoundError(f'{text!r} is no file, and no cell of the zoo: {names}')


def read_file(path):
  """The genotype of a file in either form."""
  if not path.is_file():
    raise ValueError(f'{path} is no regular file')
  if path.stat().st_size > MAX_BYTES:
    raise ValueError(f'{path} has {path.stat().st_size} bytes; a genotype has at most {MAX_BYTES}')
  try:
    text = path.read_text('utf-8')
    native = text.lstrip()[:1] == '{'
    return genotype.from_json(text) if native else genotype.from_darts_text(text)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def drawn(text):
  """`random:SEED` or `random_ops:CELL:SEED`."""
  if text.startswith(RANDOM):
    return random_cells.random_cell(whole_number(text.removeprefix(RANDOM), 'the seed', text))
  cell, _, seed = text.removeprefix(RANDOM_OPERATIONS).rpartition(':')
  if not cell:
    raise ValueError(f'{text!r} names no cell or no seed; the form is random_ops:CELL:SEED')
  seed = whole_number(seed, 'the seed', text)
  return random_cells.random_operations(genotype_from(cell), seed)


def best_of(folder):
  """The cell that trained best in `folder/*`, on images held out; all must be done."""
  paths = sorted(path.parent for path in folder.glob('*/config.json'))
  if not paths:
    raise FileNotFoundError(f'{folder} holds no folders of trainings')
  scores = {}
  for path in paths:
    if not (path / 'result.json').is_file():
      raise FileNotFoundError(f'{path} holds no result.json: its training has not finished')
    scores[path] = json_files.read_object(path / 'result.json').get('last_val_accuracy')
    if scores[path] is None:
      raise ValueError(f'{path} has no last_val_accuracy: set config.data.holdout, as 0.1')
  return genotype_from(max(paths, key=scores.get))  # the first of equal ones


def after_epoch(folder, epoch):
  """What a search in `folder` would have derived after an epoch, counted from 1."""
  epoch, path = whole_number(epoch, 'the epoch', f'{folder}@{epoch}'), folder / 'genotypes.jsonl'
  if not path.is_file():
    raise FileNotFoundError(f'{folder} holds no genotypes.jsonl: no search has run there')
  history = {line.get('epoch'): line.get('genotype') for line in json_files.read_lines(path)}
  if epoch not in history:
    known = ', '.join(map(str, history)) or 'none'
    raise ValueError(f'{path} holds no cell of epoch {epoch}; its epochs are {known}')
  try:
    return genotype.from_json(json.dumps(history[epoch]))
  except ValueError as error:
    raise ValueError(f'{path}, epoch {epoch}: {error}') from error


def whole_number(text, what, where):
  if not (text.isascii() and text.isdigit() and len(text) < 20):
    raise ValueError(f'{what} in {where!r} is {text!r}; it must be a whole number')
  return int(text)


def target_of(text):
  """A wanted number of parameters: `'3.5e6'` -> 3500000.0"""
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 < value < math.inf:
    raise ValueError(f'--target-params is {text!r}; it must be a positive number, as 3.5e6')
  return value
