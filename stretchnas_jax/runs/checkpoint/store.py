"""Checkpoints in one folder as orbax keeps them. The one file that imports orbax.

A checkpoint has a folder named after its step. While it is written, the folder has a longer name.
It holds `state`, the arrays, and `meta`, a description in JSON.
"""

import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from stretchnas_jax.machine import files

NEEDED = ('state/manifest.ocdbt', 'state/_METADATA', 'meta/metadata')
"""Files that every checkpoint has; a save that has not written one of them has failed."""


class Store:
  """The checkpoints of one folder; saves in the background."""

  def __init__(
    self, directory: pathlib.Path, keep: int, read_only: bool, stay: Collection[int] = ()
  ) -> None:
    """Opens a folder that exists, or one that is only read.

    Args:
      directory: the folder, absolute.
      keep: how many of the newest checkpoints stay; older ones are deleted.
      read_only: whether nothing may change.
      stay: the steps of checkpoints that stay, however old.
    """
    self._directory = directory
    self._saving: int | None = None
    options = _options_for_reading() if read_only else self._options_for_writing(keep, stay)
    self._manager = ocp.CheckpointManager(directory, options=options)

  def _options_for_writing(self, keep: int, stay: Collection[int]) -> ocp.CheckpointManagerOptions:
    policies = ocp.checkpoint_managers
    return ocp.CheckpointManagerOptions(
      preservation_policy=policies.AnyPreservationPolicy(
        [policies.LatestN(keep), policies.CustomSteps(stay)]
      ),
      create=False,
      enable_async_checkpointing=True,
      cleanup_tmp_directories=True,
      multiprocessing_options=_alone(),
      async_options=ocp.options.AsyncOptions(
        post_finalization_callback=self._before_it_gets_its_name,
        # Otherwise orbax waits for minutes for a folder that cannot be made.
        create_directories_asynchronously=False,
      ),
    )

  @property
  def saving(self) -> int | None:
    """The step of the save under way, or None."""
    return self._saving

  def steps(self) -> list[int]:
    """Returns the steps of all checkpoints, the newest first."""
    return sorted(self._manager.all_steps(), reverse=True)

  def save(self, step: int, arrays: Mapping[str, np.ndarray], description: dict[str, Any]) -> bool:
    """Starts to save; returns False where there is a checkpoint of this step or a later one.

    Args:
      step: of the checkpoint.
      arrays: by their paths; they must not change while they are written.
      description: an object that JSON can hold.
    """
    # orbax refuses empty arrays, such as the beta of a search without a topology.
    written = {path: array for path, array in arrays.items() if array.size}
    self._saving = step
    saved = self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(written), meta=ocp.args.JsonSave(description)
      ),
    )
    if not saved:
      self._saving = None
    return saved

  def finish(self) -> int | None:
    """Waits until the save under way is on the disk; returns its step, or None if there is none.

    Raises the errors of orbax, and of the libraries below it, where the save went wrong.
    """
    step = self._saving
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
      # orbax may have said nothing: its thread may have died, or the folder may have gone.
      if step is not None:
        if not (self._directory / str(step)).is_dir():
          raise FileNotFoundError('its folder is not there')
        files.sync(self._directory)
    finally:
      self._saving = None
    return step

  def _before_it_gets_its_name(self) -> None:
    """Writes a finished checkpoint to the disk, before orbax gives its folder the final name.

    orbax leaves some files and all folders unsynced. It also takes a folder that it cannot list for
    an empty one, and goes on without its files.
    """
    unnamed = [n for n in os.listdir(self._directory) if n.startswith(f'{self._saving}.')]
    for place in [self._directory / name for name in unnamed]:
      for name in NEEDED:
        if not (place / name).is_file():
          raise FileNotFoundError(f'{name} was not written')
      files.sync_tree(place)

  def read_description(self, step: int) -> Any:
    """Returns the description of a checkpoint; raises whatever its damage makes orbax raise."""
    return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta

  def read_arrays(
    self, step: int, targets: Mapping[str, jax.ShapeDtypeStruct]
  ) -> dict[str, jax.Array]:
    """Returns arrays of a checkpoint, on devices; raises whatever its damage makes orbax raise.

    Args:
      step: of the checkpoint.
      targets: shape, dtype and place of each array, by its path.
    """
    filled = {path: target for path, target in targets.items() if target.size}
    args = ocp.args.Composite(state=ocp.args.StandardRestore(filled))
    found = dict(self._manager.restore(step, args=args).state)
    for path, target in targets.items():
      if not target.size:
        empty = np.zeros(target.shape, target.dtype)
        found[path] = jax.device_put(empty, target.sharding)
    return found

  def reload(self) -> None:
    """Looks at the folder again, after others have changed it."""
    self._manager.reload()

  def close(self) -> None:
    """Ends the threads of orbax."""
    self._manager.close()


def _options_for_reading() -> ocp.CheckpointManagerOptions:
  return ocp.CheckpointManagerOptions(
    create=False, enable_async_checkpointing=False, multiprocessing_options=_alone()
  )


def _alone() -> ocp.options.MultiprocessingOptions:
  """Returns options by which this process's orbax waits for no other process."""
  index = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=index, active_processes={index}, barrier_sync_key_prefix=f'process_{index}'
  )
