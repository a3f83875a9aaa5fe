"""Tables of accuracies of the cells of NAS-Bench-201, from a package or from a user's file."""

import csv
import functools
import importlib.util
import math
import os
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from stretchnas_jax.cells import nas_bench_cells
from stretchnas_jax.cells.nas_bench_cells import EDGES, NUM_CELLS

_PACKAGE, _MODULE = 'analog-nasbench', 'analognasbench'
_DATA = 'data.anb'
_SOURCE = f"{_PACKAGE}: CIFAR-10, a retraining by arXiv 2506.18495, not NAS-Bench-201's own numbers"
# The classes that the package's file names. They are only marks here: nothing of it runs.
_CLASSES = {(f'{_MODULE}.data', name) for name in ('Architecture', 'DriftMeasurement')}
_MOST_BYTES = 2**26
# The package numbers operations in this order, and lists edges by source.
_OPERATIONS = ('skip_connect', 'none', 'nor_conv_3x3', 'nor_conv_1x1', 'avg_pool_3x3')
_BY_SOURCE = tuple(sorted(EDGES))
# A network that ignores its image is right once in ten times; a printed value may be rounded.
_CHANCE = 10.01

_SCRIPT = 'see docs/nas_bench_201.md for the script that writes one'


class Table(NamedTuple):
  """Accuracies of cells.

  Attributes:
    source: says whose numbers these are.
    accuracies: `[15625]` in percent, by code; NaN where a cell is not in the table.
  """

  source: str
  accuracies: Float[np.ndarray, ' n']

  @property
  def num_cells(self) -> int:
    """Returns the number of cells in the table."""
    return int(np.isfinite(self.accuracies).sum())

  def accuracy(self, code: int) -> float:
    """Returns the accuracy of a cell in percent; ValueError if the table lacks it."""
    found = float(self.accuracies[code])
    if math.isnan(found):
      text = nas_bench_cells.to_text(nas_bench_cells.from_code(code))
      raise ValueError(f'{self.source}: the cell {text} is not in this table')
    return found

  def rank(self, code: int) -> int:
    """Returns 1 and the number of better cells; ValueError if the table lacks the cell."""
    return 1 + int((self.accuracies > self.accuracy(code)).sum())

  def regret(self, code: int) -> float:
    """Returns the percent points between the best cell and this one."""
    return float(np.nanmax(self.accuracies)) - self.accuracy(code)


# ---- the package ---------------------------------------------------------------------------------


@functools.cache
def of_package() -> Table:
  """Reads the table of the package analog-nasbench, which is never imported.

  Returns:
    The accuracies of its float32 networks on the test images of CIFAR-10.

  Raises:
    ValueError: the package is not installed, or its file is not as known.
  """
  path = _package_file()
  if path.stat().st_size > _MOST_BYTES:
    raise ValueError(f'{path} has more than {_MOST_BYTES:,} bytes; the known file has 5.6 million')
  try:
    with path.open('rb') as file:
      read = _Reader(file).load()
    codes = _codes(np.array(list(read)))
    found = np.array([float(_state(record)) for record in read.values()])
  except Exception as error:  # a damaged pickle can raise anything
    raise ValueError(
      f'{path} is not the table of {_PACKAGE} as version 0.1.3 has it: {error}'
    ) from error
  accuracies = np.full(NUM_CELLS, np.nan)
  accuracies[codes] = found
  # The order of its keys is written down nowhere. This proves it: cells without a path guess.
  if not np.array_equal(accuracies <= _CHANCE, ~nas_bench_cells.have_paths()):
    raise ValueError(f'{path} numbers edges or operations in another way than version 0.1.3')
  return Table(_SOURCE, accuracies)


def _package_file() -> pathlib.Path:
  """Returns the path of the package's file; ValueError if there is none."""
  spec = importlib.util.find_spec(_MODULE)
  for folder in (spec and spec.submodule_search_locations) or ():
    if (path := pathlib.Path(folder) / _DATA).is_file():
      return path
  raise ValueError(
    "the table of NAS-Bench-201 is not installed: pip install 'stretchnas_jax[nasbench]', or give "
    f'a table of your own, table=FILE.csv; {_SCRIPT}'
  )


class _Record:
  """Stands for an object of the package; it holds fields and does nothing."""


class _Reader(pickle.Unpickler):
  """Reads numbers, texts, tuples, dicts and records; refuses every other name."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _CLASSES:
      raise pickle.UnpicklingError(f'it names {module[:40]}.{name[:40]}')
    return _Record


def _state(record: Any) -> Any:
  return vars(record)['baseline_accuracy']


def _codes(keys: Int[np.ndarray, 'n 6']) -> Int[np.ndarray, ' n']:
  """Returns the codes of cells from their keys in the package."""
  ours = np.array([nas_bench_cells.OPERATIONS.index(name) for name in _OPERATIONS])
  columns = [_BY_SOURCE.index(edge) for edge in EDGES]
  return nas_bench_cells.codes_of(ours[keys[:, columns]])


def _by_code(found: Mapping[int, float]) -> Float[np.ndarray, ' n']:
  accuracies = np.full(NUM_CELLS, np.nan)
  for code, accuracy in found.items():
    accuracies[code] = accuracy
  return accuracies


# ---- a file of the user --------------------------------------------------------------------------


def of_file(path: pathlib.Path | str) -> Table:
  """Reads a CSV file with the columns `cell` and `accuracy`, and any others.

  Args:
    path: its first row has the names of the columns. A cell is a text of NAS-Bench-201, and an
      accuracy is in percent. Cells may be missing.

  Raises:
    ValueError: names the row that is wrong.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path} is not a file; {_SCRIPT}')
  about = os.stat(path)
  return _of_file(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=8)
def _of_file(path: pathlib.Path, time: int, size: int) -> Table:
  """Reads a file once, as long as its time and its size stay the same."""
  del time, size
  with path.open(newline='', encoding='utf-8-sig') as file:
    try:
      return Table(str(path), _by_code(_rows_of(path, csv.DictReader(file))))
    except (UnicodeDecodeError, csv.Error) as error:
      raise ValueError(f'{path} is not a CSV file in UTF-8: {error}') from error


def _rows_of(path: pathlib.Path, reader: csv.DictReader) -> dict[int, float]:
  """Returns the accuracies by code; ValueError names the wrong row."""
  names = reader.fieldnames or ()
  if missing := [name for name in ('cell', 'accuracy') if name not in names]:
    raise ValueError(f'{path} has no column {missing[0]!r} in its first row; {_SCRIPT}')
  found: dict[int, float] = {}
  for row in reader:
    where = f'{path}, line {reader.line_num}'
    try:
      code = nas_bench_cells.from_text(row['cell'] or '').code
    except ValueError as error:
      raise ValueError(f'{where}: {error}') from error
    accuracy = _percent(row['accuracy'])
    if accuracy is None:
      raise ValueError(f'{where}: accuracy is {row["accuracy"]!r}; it must be from 0 to 100')
    if code in found:
      raise ValueError(f'{where}: this cell stands in the table already')
    found[code] = accuracy
  if not found:
    raise ValueError(f'{path} has no row with a cell')
  return found


def _percent(text: str | None) -> float | None:
  """Returns a number from 0 to 100, or None."""
  try:
    value = float(text or '')
  except ValueError:
    return None
  return value if 0 <= value <= 100 else None
