"""The ways in which a checkpoint is damaged."""

import pathlib
import shutil
from collections.abc import Callable

import numpy as np

STEPS = (10, 20, 30)  # the checkpoints of a run; the last one is damaged

# Takes the folder of a checkpoint, the folder of the other run's checkpoints, and random numbers.
_Damage = Callable[[pathlib.Path, pathlib.Path, np.random.Generator], None]


def _files_of(step: pathlib.Path) -> list[pathlib.Path]:
  return sorted(path for path in step.rglob('*') if path.is_file())


def _some_file(step: pathlib.Path, rng: np.random.Generator) -> pathlib.Path:
  found = _files_of(step)
  return found[rng.integers(len(found))]


def _truncate(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  file = _some_file(step, rng)
  file.write_bytes(file.read_bytes()[: rng.integers(file.stat().st_size + 1)])


def _flip(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  file = _some_file(step, rng)
  data = bytearray(file.read_bytes())
  for _ in range(rng.integers(1, 9)) if data else ():
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
  file.write_bytes(data)


def _empty(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  _some_file(step, rng).write_bytes(b'')


def _zero_block(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  file = _some_file(step, rng)
  data = file.read_bytes()
  start = int(rng.integers(len(data) + 1))
  file.write_bytes(data[:start] + bytes(len(data[start : start + 512])) + data[start + 512 :])


def _append(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  file = _some_file(step, rng)
  file.write_bytes(file.read_bytes() + rng.bytes(int(rng.integers(1, 600))))


def _remove_file(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  _some_file(step, rng).unlink()


def _remove_half(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  for file in _files_of(step):
    if rng.random() < 0.5:
      file.unlink()


def _remove_part(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  folders = sorted(path for path in step.rglob('*') if path.is_dir())
  shutil.rmtree(folders[rng.integers(len(folders))])


def _remove_content(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  shutil.rmtree(step)
  step.mkdir()


def _remove_all(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  shutil.rmtree(step)


def _foreign(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  """Replaces a checkpoint by the same step of the other run."""
  shutil.rmtree(step)
  shutil.copytree(other / step.name, step)


def older(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  """Replaces a checkpoint by an older one.

  Args:
    step: the folder of the checkpoint.
    other: the folder of the other run's checkpoints.
    rng: the source of chance.
  """
  shutil.rmtree(step)
  shutil.copytree(step.parent / str(STEPS[rng.integers(2)]), step)


def _mixed(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  """Replaces a part of a checkpoint by that part of an older one, or of the other run."""
  part = ('state', 'meta')[rng.integers(2)]
  sources = step.parent / str(STEPS[0]), other / step.name, other / str(STEPS[0])
  source = sources[rng.integers(step == sources[0], 3)]
  shutil.rmtree(step / part)
  shutil.copytree(source / part, step / part)


def _exchanged(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  """Replaces one file by a file of another checkpoint."""
  file = _some_file(step, rng)
  sources = step.parent / str(STEPS[1]), other / step.name
  source = sources[rng.integers(step == sources[0], 2)]
  shutil.copyfile(_some_file(source, rng), file)


def _a_file_in_its_place(step: pathlib.Path, other: pathlib.Path, rng: np.random.Generator) -> None:
  shutil.rmtree(step)
  step.write_bytes(rng.bytes(20))


DAMAGES: tuple[_Damage, ...] = (
  _truncate, _flip, _empty, _zero_block, _append, _remove_file, _remove_half, _remove_part,
  _remove_content, _remove_all, _foreign, older, _mixed, _exchanged, _a_file_in_its_place,
)  # fmt: skip
