"""Chooses the checkpoint from which a run goes on.

A checkpoint that is damaged, or that belongs to another run, is passed over for the one before it.
It is moved aside, not deleted. Where no checkpoint can be used, the run does not start again from
the beginning without a word: that is an error.
"""

import itertools
import json
import logging
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from stretchnas_jax.machine import files
from stretchnas_jax.machine import leaves as leaves_lib
from stretchnas_jax.machine.faults import Fault
from stretchnas_jax.runs.checkpoint import integrity
from stretchnas_jax.runs.checkpoint.store import Store


class Unusable(Fault):
  """Checkpoints of which none can be restored."""


class Recovery:
  """Restores states from a `Store`."""

  def __init__(self, store: Store, directory: pathlib.Path, read_only: bool) -> None:
    """Binds the checkpoints of one folder.

    Args:
      store: the checkpoints.
      directory: their folder, absolute.
      read_only: whether nothing may change.
    """
    self._store = store
    self._directory = directory
    self._read_only = read_only
    # Beside the folder, so that it is still there when the folder has gone.
    self._record = directory.with_name(f'{directory.name}.json')

  def find(
    self, like: PyTree, identity: Mapping[str, Any]
  ) -> tuple[int, PyTree, dict[str, Any]] | None:
    """Returns `(step, state, meta)` of the newest good checkpoint; None where there are none.

    Newer ones are set aside, so that their steps can be saved again.

    Args:
      like: a state with the same leaves, see `restore`.
      identity: the values in which the checkpoint must agree.

    Raises:
      Unusable: there are checkpoints and none is good, or there were checkpoints once.
    """
    refused = self._files_in_place_of_checkpoints()
    for step in self._store.steps():
      try:
        found = self.restore(step, like, identity)
      except Exception as error:  # the type depends on the damaged file, and on the damage
        refused[step] = error
        logging.warning('%s', integrity.why_refused(step, error))
        continue
      self._set_aside(refused)
      self._tell_if_newer_ones_are_gone([step, *refused])
      return found
    if refused:
      raise self._unusable(refused)
    if not self._read_only and (newest := self._newest_saved()):
      raise Unusable(
        f'the checkpoint of step {newest} was saved in {self._directory}, which has none now: put '
        f'it back, or delete {self._record} to start from the beginning'
      )
    return None

  def restore(
    self, step: int, like: PyTree, identity: Mapping[str, Any]
  ) -> tuple[int, PyTree, dict[str, Any]]:
    """Returns `(step, state, meta)` of one checkpoint.

    Args:
      step: of the checkpoint.
      like: a state of the same structure, shapes and dtypes, made of arrays or ShapeDtypeStructs;
        the restored leaves go where these are. Or a function `(step, meta)` that returns one.
      identity: the values in which the checkpoint must agree.

    Raises:
      Damaged, Mismatch: the checkpoint is not good.
      Exception: orbax cannot read it.
    """
    content = self.description(step)
    integrity.check_own(step, content, identity)
    like = like(step, content['meta']) if callable(like) else like
    wanted = leaves_lib.flatten(like)
    targets = {path: leaves_lib.abstract(leaf) for path, leaf in wanted.items()}
    integrity.check_alike(step, content['leaves'], like)
    arrays = self._store.read_arrays(step, targets)
    integrity.check_leaves(
      {path: array for path, array in arrays.items() if array.size}, content['leaves']
    )
    leaves = [leaves_lib.wrap(arrays[path], leaf) for path, leaf in wanted.items()]
    return step, jax.tree.unflatten(jax.tree.structure(like), leaves), content['meta']

  def description(self, step: int) -> dict[str, Any]:
    """Returns step, meta and leaves of a checkpoint, without its arrays.

    Raises:
      Damaged: the checksum is wrong.
      Exception: orbax cannot read it.
    """
    return integrity.read(self._store.read_description(step))

  def descriptions(self) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields `(step, description)` of all checkpoints that have a good one, the newest first."""
    for step in self._store.steps():
      try:
        content = self.description(step)
      except Exception as error:  # the type depends on the damage
        logging.warning('%s', integrity.why_refused(step, error))
        continue
      yield step, content

  def note_saved(self, step: int) -> None:
    """Writes beside the folder that a checkpoint was saved, so that its loss is noticed later."""
    files.replace(self._record, json.dumps({'newest': step}).encode())

  def _newest_saved(self) -> int:
    """Returns the step of the newest checkpoint that was ever saved; 0 for none."""
    try:
      return int(json.loads(self._record.read_bytes())['newest'])
    except (OSError, ValueError, KeyError, TypeError):
      return 0

  def _tell_if_newer_ones_are_gone(self, steps: Iterable[int]) -> None:
    newest = self._newest_saved()
    if newest > max(steps):
      logging.warning('checkpoint %d was saved, and is not there any more', newest)

  def _files_in_place_of_checkpoints(self) -> dict[int, Exception]:
    """Returns `{step: error}` for each file that has the name of a checkpoint's folder."""
    found: dict[int, Exception] = {}
    for path in self._directory.glob('[0-9]*'):
      if not path.is_dir() and path.name.isdigit():
        found[int(path.name)] = integrity.Damaged('it is a file')
    for step, error in found.items():
      logging.warning('%s', integrity.why_refused(step, error))
    return found

  def _unusable(self, refused: Mapping[int, Exception]) -> Unusable:
    """Returns the error for checkpoints of which none can be restored.

    Args:
      refused: `{step: error}`.
    """
    if all(isinstance(error, integrity.Mismatch) for error in refused.values()):
      return Unusable(str(next(iter(refused.values()))))
    return Unusable(
      f'none of the checkpoints in {self._directory} can be restored (steps {list(refused)}); '
      'move them away to start from the beginning'
    )

  def _set_aside(self, steps: Iterable[int]) -> None:
    """Moves checkpoints to a folder beside their own; someone may miss them."""
    moved = sorted(steps)
    if self._read_only or not moved:
      return
    aside = self._directory.with_name(f'{self._directory.name}-set-aside')
    aside.mkdir(exist_ok=True)
    for step in moved:
      places = (aside / f'{step}.{i}' for i in itertools.count())
      # A copy where the checkpoints are a link to another file system.
      shutil.move(self._directory / str(step), next(p for p in places if not p.exists()))
    logging.warning('checkpoints %s are moved to %s', moved, aside)
    self._store.reload()
