"""The checkpoints of a run: saved in the background, restored only if they are good."""

import contextlib
import logging
import os
import pathlib
import shutil
import tempfile
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from stretchnas_jax.machine import files
from stretchnas_jax.machine import leaves as leaves_lib
from stretchnas_jax.runs.checkpoint import integrity
from stretchnas_jax.runs.checkpoint.recovery import Recovery, Unusable
from stretchnas_jax.runs.checkpoint.store import Store


class SaveFailed(OSError):
  """A checkpoint that was not saved; the one before it stays."""


class Checkpoints:
  """The checkpoints in one folder; a context manager that waits for the last save at its end.

  A save that fails is an error of the next save, or of the end. In a job of several processes the
  first one saves, since all hold the same state. Each process reads for itself.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    keep: int = 3,
    read_only: bool = False,
    stay: Collection[int] = (),
  ) -> None:
    """Opens a folder, and makes it where it is missing.

    Without `read_only`, all processes of a job must do this together.

    Args:
      directory: the folder.
      keep: how many of the newest checkpoints stay; older ones are deleted.
      read_only: whether nothing may change.
      stay: the steps of checkpoints that stay, however old.
    """
    index, count = jax.process_index(), jax.process_count()
    self._directory = pathlib.Path(directory).absolute()
    self._shared = count > 1 and not read_only
    self._read_only = read_only or index > 0
    if self._directory.is_symlink() and not self._directory.exists():
      raise FileNotFoundError(f'{self._directory} is a link to a folder that is not there')
    if not self._read_only:
      self._directory.mkdir(parents=True, exist_ok=True)
    if self._shared:
      multihost_utils.sync_global_devices('checkpoints')
    self._store = Store(self._directory, keep, self._read_only, stay)
    self._recovery = Recovery(self._store, self._directory, self._read_only)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: types.TracebackType | None,
  ) -> None:
    try:
      self.close()
    except Exception as failure:
      if error is None:
        raise
      # The first error is the one to see.
      logging.warning('the last checkpoint was not saved: %s', failure)

  def close(self) -> None:
    """Waits for the save under way, and ends; raises SaveFailed if the save went wrong."""
    try:
      self.wait()
    except SaveFailed:
      with contextlib.suppress(Exception):  # it has the same cause, and comes later
        self._store.close()
      raise
    self._store.close()

  def wait(self) -> None:
    """Waits until the save under way is on the disk; raises SaveFailed if it went wrong."""
    step = self._store.saving
    try:
      finished = self._store.finish()
      if finished is not None:
        self._recovery.note_saved(finished)
    except Exception as error:  # orbax passes on the errors of its libraries
      raise self._failed(step, error) from error

  def save(self, step: int, state: PyTree, meta: Mapping[str, Any] | None = None) -> None:
    """Saves in the background; the arrays may change or be donated once this returns.

    In a process that is not the first one this does nothing.

    Args:
      step: a whole number, above that of every checkpoint there is.
      state: a pytree of arrays, typed keys among them.
      meta: a dict that JSON can hold.

    Raises:
      ValueError: there is a checkpoint of this step or a later one.
      SaveFailed: the save before this one failed, or this one at its beginning.
    """
    if self._read_only:
      return
    self.wait()
    self._check_folder(step)
    # Copies, since the next steps may use the memory of the state while this is written.
    numbers = {
      path: np.array(leaves_lib.raw(leaf)) for path, leaf in leaves_lib.flatten(state).items()
    }
    description = integrity.describe(step, state, numbers, meta or {})
    try:
      saved = self._store.save(step, numbers, description)
    except Exception as error:
      raise self._failed(step, error) from error
    if not saved:
      raise ValueError(
        f'no checkpoint was saved at step {step}: {self._directory} already has one of step '
        f'{self.steps()[0]}'
      )

  def _check_folder(self, step: int) -> None:
    """Raises SaveFailed where the folder has gone; orbax would make an empty one in its place."""
    try:
      if not self._directory.is_dir():
        raise FileNotFoundError('the folder is not there any more')
    except OSError as error:
      raise self._failed(step, error) from error

  def _failed(self, step: int | None, error: Exception) -> SaveFailed:
    """Returns the error for a save that went wrong, which names the checkpoint that stays."""
    names: list[str] = []
    with contextlib.suppress(OSError):  # a disk that fails may not list a folder either
      names = os.listdir(self._directory)
    before = max((int(name) for name in names if name.isdigit() and name != str(step)), default=0)
    stays = f'that of step {before} stays: the same command goes on from there'
    return SaveFailed(
      f'the checkpoint of step {step} could not be saved in {self._directory} '
      f'({integrity.reason(error)}); {stays if before else "there is none before it"}'
    )

  def restore_latest(
    self, like: PyTree, identity: Mapping[str, Any] | None = None
  ) -> tuple[int, PyTree, dict[str, Any]] | None:
    """Returns the newest checkpoint that is whole and of this run.

    Newer ones are moved to a folder beside that of the checkpoints, so that their steps can be
    saved again. In a job of several processes all read the one that the first process has found.

    Args:
      like: a state of the same structure, shapes and dtypes, made of arrays or ShapeDtypeStructs;
        the restored leaves are placed on devices as these are. Or a function `(step, meta)` that
        returns one, where the checkpoints of a run differ.
      identity: values that must equal those of `meta['identity']`, as far as both have them.

    Returns:
      `(step, state, meta)`, or None where there are no checkpoints.

    Raises:
      Unusable (a ValueError): no checkpoint can be read, `like` has other leaves than the saved
        state, or there were checkpoints once.
    """
    identity = identity or {}
    if not self._shared:
      return self._recovery.find(like, identity)
    if self._read_only:
      step = _told_by_the_first_process()
      self._store.reload()
      return self._recovery.restore(step, like, identity) if step else None
    found = self._recovery.find(like, identity)
    _told_by_the_first_process(found[0] if found else 0)
    return found

  def restore(
    self, step: int, like: PyTree, identity: Mapping[str, Any]
  ) -> tuple[int, PyTree, dict[str, Any]]:
    """Returns one checkpoint as `restore_latest` does; moves nothing.

    Args:
      step: of the checkpoint.
      like: as for `restore_latest`.
      identity: as for `restore_latest`.

    Raises:
      Unusable (a ValueError): it is missing or damaged, or `like` has other leaves.
    """
    try:
      return self._recovery.restore(step, like, identity)
    except Exception as error:  # the type depends on the damaged file, and on the damage
      raise Unusable(integrity.why_refused(step, error)) from error

  def metas(self) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields `(step, meta)` of all checkpoints whose meta can be read, the newest first."""
    for step, content in self._recovery.descriptions():
      yield step, content['meta']

  def meta(self, step: int) -> dict[str, Any]:
    """Returns the meta of a checkpoint; raises Unusable where it cannot be read."""
    try:
      return self._recovery.description(step)['meta']
    except Exception as error:  # the type depends on the damage
      raise Unusable(integrity.why_refused(step, error)) from error

  def checksums(self, step: int) -> dict[str, list]:
    """Returns `{path of a leaf: [shape, dtype, checksum]}` of a checkpoint, as it was saved."""
    return self._recovery.description(step)['leaves']

  def steps(self) -> list[int]:
    """Returns the steps of all checkpoints, the newest first."""
    return self._store.steps()


def try_place(folder: pathlib.Path) -> None:
  """Saves and reads a trial checkpoint below a folder, and removes it.

  A path that the libraries below cannot write is found here, and not after the first epoch.

  Args:
    folder: it must exist; the trial has a folder of its own inside.

  Raises:
    SaveFailed: the sentence says what went wrong.
  """
  trial = pathlib.Path(tempfile.mkdtemp(prefix=f'{files.TEMPORARY}trial-', dir=folder))
  try:
    store = Store(trial, keep=1, read_only=False)
    try:
      store.save(1, {'number': np.zeros(1, np.float32)}, {'trial': True})
      store.finish()
      store.read_description(1)
    finally:
      with contextlib.suppress(Exception):  # the first error is the one to see
        store.close()
  except Exception as error:  # each library raises types of its own
    raise SaveFailed(
      f'no checkpoint can be saved in {folder} ({integrity.reason(error)}); choose another '
      'workdir, for example one with plain letters'
    ) from error
  finally:
    shutil.rmtree(trial, ignore_errors=True)


def _told_by_the_first_process(step: int = 0) -> int:
  """Returns the `step` of the first process, in all processes."""
  return int(multihost_utils.broadcast_one_to_all(np.int32(step)))
