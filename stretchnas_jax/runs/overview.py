"""The facts of a run that stand in its folder: its state, its config, how far it is, how good.

Nothing is loaded and nothing is computed, so that hundreds of runs are read in a moment.
"""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stretchnas_jax.machine import faults
from stretchnas_jax.runs import json_files
from stretchnas_jax.runs import workdir as workdir_lib

# Files that a folder has beside config.json if it is a run.
_BESIDE = ('run.json', 'metrics.jsonl', 'genotypes.jsonl', 'checkpoints', 'identity.json')
_ACCURACIES = ('test_accuracy', 'last_val_accuracy', 'val_accuracy')


class Overview(NamedTuple):
  """The facts of one run.

  Attributes:
    path: its folder.
    kind: 'search', 'train', or '' where the config is damaged.
    state: 'finished', 'running', 'stopped' or 'damaged'. 'stopped' means that no process works on
      it and no result is there.
    note: what is damaged, in a sentence; '' otherwise.
    config: the fields of the run, nested; {} where they are damaged.
    result: the content of `result.json`, or {}.
    record: the content of `run.json`, or {}.
    lines: the lines of metrics.
  """

  path: pathlib.Path
  kind: str
  state: str
  note: str
  config: Mapping[str, Any]
  result: Mapping[str, Any]
  record: Mapping[str, Any]
  lines: tuple[Mapping[str, Any], ...]

  @property
  def seed(self) -> int | None:
    """Returns the seed."""
    return _int(self.config.get('seed'))

  @property
  def epoch(self) -> int:
    """Returns the number of epochs that are done."""
    return _int(self.lines[-1].get('epoch')) or 0 if self.lines else 0

  @property
  def epochs(self) -> int | None:
    """Returns the number of epochs of the whole run."""
    group = self.config.get(self.kind)
    return _int(group.get('epochs')) if isinstance(group, dict) else None

  @property
  def named_config(self) -> str:
    """Returns the value of `--config` of the command that began the run; '' where none did."""
    starts = self.record.get('starts')
    first = starts[0] if isinstance(starts, list) and starts else self.record
    argv = first.get('argv') if isinstance(first, dict) else ()
    words = [word for word in argv if isinstance(word, str)] if isinstance(argv, list) else []
    for word, after in zip(words, [*words[1:], '']):
      name, equals, value = word.partition('=')
      if name in ('--config', '-config'):
        return value if equals else after
    return ''

  @property
  def accuracy(self) -> float | None:
    """Returns the accuracy of the result, or of the last epoch so far, from 0 to 1.

    It is the test accuracy of a training, else the validation accuracy.
    """
    for source in (self.result, *self.lines[-1:]):
      for name in _ACCURACIES:
        if isinstance(source.get(name), int | float):
          return float(source[name])
    return None

  @property
  def params(self) -> int | None:
    """Returns the weights of the trained network, or of the supernet; None before the end."""
    return _int(self.result.get('params', self.result.get('supernet_params')))


def read(path: pathlib.Path | str) -> Overview:
  """Reads the facts of a run; a damaged file gives the state 'damaged' and no error.

  Args:
    path: the folder.

  Raises:
    FileNotFoundError: no run is there.
    ValueError: it holds several runs.
  """
  path = workdir_lib.absolute(path)
  if not is_run(path):
    raise FileNotFoundError(f'{path} is not a run: it has no config.json')
  notes: list[str] = []
  config = _object(path / 'config.json', notes)
  if isinstance(config.get('seeds'), list):
    raise ValueError(f'{path} holds several runs: one for each of its seeds')
  kind = next((name for name in ('train', 'search') if isinstance(config.get(name), dict)), '')
  if config and not kind:
    notes.append(f'{path / "config.json"} is of neither a search nor a training')
  result, record = _object(path / 'result.json', notes), _object(path / 'run.json', notes)
  for name in ('metrics.jsonl', 'genotypes.jsonl'):
    notes += _torn(path / name)
  lines = tuple(json_files.read_lines(path / 'metrics.jsonl'))
  state = 'finished' if result else 'running' if workdir_lib.in_use(path) else 'stopped'
  state, note = ('damaged', notes[0]) if notes else (state, '')
  return Overview(path, kind, state, note, config, result, record, lines)


def is_run(path: pathlib.Path) -> bool:
  """Returns whether a folder is that of one run, or of several seeds."""
  if not (path / 'config.json').is_file():
    return False
  if any((path / name).exists() for name in _BESIDE):
    return True
  fields = _object(path / 'config.json', [])
  return 'seed' in fields and 'data' in fields


def below(folder: pathlib.Path | str) -> list[Overview]:
  """Reads all runs in a folder and in its folders, in the order of their paths.

  Of several seeds each is a run. Links to folders are not followed.

  Args:
    folder: where to look; it may be a run itself.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  top = workdir_lib.absolute(folder)
  if not top.is_dir():
    raise FileNotFoundError(f'{top} is not a folder')
  return [read(path) for path in sorted(_runs_in(top)) if not has_seeds(path)]


def each_of(path: pathlib.Path | str) -> list[pathlib.Path]:
  """Returns the folder of a run, or the folders of the seeds where it holds several.

  Args:
    path: the folder.
  """
  path = workdir_lib.absolute(path)
  if not has_seeds(path):
    return [path]
  return [child for child in sorted(path.glob('seed_*'), key=_by_number) if is_run(child)]


def _by_number(path: pathlib.Path) -> tuple[int, str]:
  return len(path.name), path.name


def _runs_in(top: pathlib.Path) -> Iterator[pathlib.Path]:
  for folder, names, _ in os.walk(top):
    names[:] = [name for name in names if name != 'checkpoints' and not name.startswith('.')]
    if is_run(pathlib.Path(folder)):
      yield pathlib.Path(folder)


def has_seeds(path: pathlib.Path) -> bool:
  """Returns whether a folder is that of several seeds of one run."""
  return is_run(path) and isinstance(_object(path / 'config.json', []).get('seeds'), list)


def _object(path: pathlib.Path, notes: list[str]) -> dict:
  """Returns the object in a file; {} where there is none, with a note where it is damaged."""
  try:
    return json_files.read_object(path)
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as error:
    notes.append(faults.one_line(error))
    return {}


def _torn(path: pathlib.Path) -> Iterator[str]:
  """Yields a note where a line before the last one is damaged; a crash tears only the last one."""
  try:
    parts = path.read_bytes().split(b'\n')
  except FileNotFoundError:
    return
  except OSError as error:
    yield f'{path} cannot be read: {error.strerror}'
    return
  written = [part for part in parts[:-1] if part.strip()]
  if len(json_files.read_lines(path)) < len(written):
    yield f'{path} is damaged: some of its lines hold no JSON object'


def _int(value: Any) -> int | None:
  return value if isinstance(value, int) and not isinstance(value, bool) else None
