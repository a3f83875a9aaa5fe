"""Saves and restores the state of a run. The one file that imports orbax.

Every leaf has a checksum, since a flipped bit restores without a word. A checkpoint that is damaged
or of another run is passed over for the one before; a run with checkpoints of which none can be
read does not silently begin anew. A save that fails is an error of the next one, or of the end.

Of several processes the first one saves, since all hold the same state, and each reads for itself.
"""

import contextlib
import itertools
import json
import logging
import os
import pathlib
import re
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from stretchnas_jax.machine import files
from stretchnas_jax.machine.leaves import abstract, describe, flatten, raw, wrap

# Without one of these nothing of a checkpoint can be read.
NEEDED = ('state/manifest.ocdbt', 'state/_METADATA', 'meta/metadata')


class Damaged(Exception):
  """A checkpoint whose content is not what was saved."""


class Mismatch(Exception):
  """A whole checkpoint of another state, or of another run."""


class SaveFailed(OSError):
  """A checkpoint that was not saved; the one before it stays."""


class Unusable(OSError, ValueError):
  """Checkpoints of which none can be restored."""


class Checkpoints:
  """The checkpoints in one folder; a context manager that waits for the last save at its end."""

  def __init__(self, directory, keep=3, read_only=False):
    """`keep` newest ones stay; older ones are deleted. With `read_only` nothing is changed.

    Without `read_only`, all processes of a job must do this together.
    """
    index, count = jax.process_index(), jax.process_count()
    self.directory, self.shared = pathlib.Path(directory).absolute(), count > 1 and not read_only
    self.read_only = read_only or index > 0
    if not self.read_only:
      self.directory.mkdir(parents=True, exist_ok=True)
    if self.shared:
      multihost_utils.sync_global_devices('checkpoints')
    # Each manager is of one process, and waits for no other.
    alone = ocp.options.MultiprocessingOptions(
      primary_host=index, active_processes={index}, barrier_sync_key_prefix=f'process_{index}'
    )
    options = (
      ocp.CheckpointManagerOptions(
        create=False, enable_async_checkpointing=False, multiprocessing_options=alone
      )
      if self.read_only
      else ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=False, enable_async_checkpointing=True,
        cleanup_tmp_directories=True, multiprocessing_options=alone,
        async_options=ocp.options.AsyncOptions(
          post_finalization_callback=self._finish,
          # Else it waits for minutes for a folder that cannot be made.
          create_directories_asynchronously=False,
        ),
      )
    )  # fmt: skip
    self._record = self.directory.with_name(f'{self.directory.name}.json')
    self._saving = None
    self._manager = ocp.CheckpointManager(self.directory, options=options)

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    try:
      self.close()
    except Exception as failure:
      if error is None:
        raise
      # The first error is the one to see.
      logging.warning('the last checkpoint was not saved: %s', failure)

  def close(self):
    """Waits for the save under way; SaveFailed if it went wrong."""
    try:
      self.wait()
    except SaveFailed:
      with contextlib.suppress(Exception):  # of the same cause, and later
        self._manager.close()
      raise
    self._manager.close()

  def wait(self):
    """Waits for the save under way, until it is on the disk; SaveFailed if it went wrong."""
    step = self._saving
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
      # Whatever orbax says: a thread may have died, or the folder may have gone.
      if step is not None and not (self.directory / str(step)).is_dir():
        raise FileNotFoundError('its folder is not there')
      if step is not None:
        files.sync(self.directory)
        files.replace(self._record, json.dumps({'newest': step}).encode())
    except Exception as error:  # orbax hands on what its libraries raise
      raise self._failed(step, error) from error
    finally:
      self._saving = None

  def _check_folder(self, step):
    """SaveFailed where it has gone: orbax would make it anew, without those that were in it."""
    try:
      if not self.directory.is_dir():
        raise FileNotFoundError('the folder is not there any more')
    except OSError as error:
      raise self._failed(step, error) from error

  def _finish(self):
    """Before a checkpoint gets its name: orbax leaves some files and all folders unsynced.

    It also takes a folder that it cannot list for an empty one, and goes on without its files.
    """
    names = [n for n in os.listdir(self.directory) if n.startswith(f'{self._saving}.')]
    for place in [self.directory / name for name in names]:
      if missing := [name for name in NEEDED if not (place / name).is_file()]:
        raise FileNotFoundError(f'{missing[0]} was not written')
      files.sync_tree(place)

  def _failed(self, step, error):
    """What is to be said of a save that went wrong."""
    names = ()
    with contextlib.suppress(OSError):  # a disk that fails may not even say this
      names = os.listdir(self.directory)
    before = max((int(name) for name in names if name.isdigit() and name != str(step)), default=0)
    stays = f'that of step {before} stays: the same command goes on from there'
    return SaveFailed(
      f'the checkpoint of step {step} could not be saved in {self.directory} ({reason(error)}); '
      f'{stays if before else "there is none before it"}'
    )

  def save(self, step, state, meta=None):
    """Saves in the background; the arrays may change or be donated once this returns.

    In a process that is not the first one this does nothing.

    Args:
      step: a whole number, above that of every checkpoint there is.
      state: a pytree of arrays, typed keys among them.
      meta: a dict that JSON can hold.

    Raises:
      ValueError: there is a checkpoint of this or a later step.
      SaveFailed: the save before this one, or the beginning of this one.
    """
    if self.read_only:
      return
    self.wait()
    self._check_folder(step)
    # Copies of our own: what is written later cannot be touched by the steps that run meanwhile.
    leaves = {path: np.array(raw(leaf)) for path, leaf in flatten(state).items()}
    sums = {path: zlib.crc32(leaf.tobytes()) for path, leaf in leaves.items()}
    described = {path: [*describe(leaf), sums[path]] for path, leaf in flatten(state).items()}
    content = {'step': step, 'meta': meta or {}, 'leaves': described}
    self._saving = step
    try:
      saved = self._manager.save(
        step,
        args=ocp.args.Composite(
          # orbax refuses empty arrays, such as the beta of a search without a topology.
          state=ocp.args.StandardSave({path: x for path, x in leaves.items() if x.size}),
          meta=ocp.args.JsonSave({'content': content, 'crc': checksum(content)}),
        ),
      )
    except Exception as error:
      raise self._failed(step, error) from error
    if not saved:
      self._saving = None
      raise ValueError(
        f'no checkpoint was saved at step {step}: {self.directory} already has one of step '
        f'{self._manager.latest_step()}'
      )

  def restore_latest(self, like, identity=None):
    """The newest checkpoint that is whole, and of this run.

    Newer ones are set aside, in a folder beside that of the checkpoints, so that their steps can be
    saved again. In a job of several processes all read the one that the first process has found.

    Args:
      like: a state of the same structure, shapes and types, of arrays or ShapeDtypeStructs; the
        restored leaves are placed on devices as these are.
      identity: in what a checkpoint's `meta['identity']` must agree, as far as it has these names.

    Returns:
      `(step, state, meta)`, or None where there are no checkpoints.

    Raises:
      Unusable (a ValueError): no checkpoint can be read, `like` has other leaves than what was
        saved, or there were checkpoints once.
    """
    if not self.shared:
      return self._find(like, identity or {})
    if self.read_only:
      step = told()
      self._manager.reload()
      return self._restore(step, like, identity or {}) if step else None
    found = self._find(like, identity or {})
    told(found[0] if found else 0)
    return found

  def _find(self, like, identity):
    refused = self._strays()
    for step in self.steps():
      try:
        found = self._restore(step, like, identity)
      except Exception as error:  # the type depends on which file is damaged, and how
        refused[step] = error
        logging.warning('%s', why(step, error))
        continue
      self._set_aside(refused)
      self._name_missing(step, refused)
      return found
    if refused:
      raise self._unusable(refused)
    if not self.read_only and (newest := self._newest_saved()):
      raise Unusable(
        f'the checkpoint of step {newest} was saved in {self.directory}, which has none now: put '
        f'it back, or delete {self._record} to begin anew'
      )
    return None

  def _restore(self, step, like, identity):
    """What `restore_latest` gives, of one checkpoint."""
    content, target = self._content(step), {p: abstract(leaf) for p, leaf in flatten(like).items()}
    check_own(step, content, identity)
    check_alike(step, content['leaves'], like)
    leaves = self._leaves(step, content['leaves'], target)
    restored = [wrap(leaves[path], leaf) for path, leaf in flatten(like).items()]
    return step, jax.tree.unflatten(jax.tree.structure(like), restored), content['meta']

  def _strays(self):
    """Files that stand where a checkpoint belongs, as `{step: error}`."""
    names = [path.name for path in self.directory.glob('[0-9]*') if not path.is_dir()]
    found = {int(name): Damaged('it is a file') for name in names if name.isdigit()}
    for step, error in found.items():
      logging.warning('%s', why(step, error))
    return found

  def _unusable(self, refused):
    """The error for checkpoints, `{step: error}`, of which none can be restored."""
    if all(isinstance(error, Mismatch) for error in refused.values()):
      return Unusable(str(next(iter(refused.values()))))
    return Unusable(
      f'none of the checkpoints in {self.directory} can be restored (steps {list(refused)}); '
      'move them away to begin anew'
    )

  def _set_aside(self, steps):
    """Moves checkpoints out of the way; nothing is deleted that someone may miss."""
    if self.read_only or not steps:
      return
    aside = self.directory.with_name(f'{self.directory.name}-set-aside')
    aside.mkdir(exist_ok=True)
    for step in steps:
      places = (aside / f'{step}.{i}' for i in itertools.count())
      os.rename(self.directory / str(step), next(p for p in places if not p.exists()))
    logging.warning('checkpoints %s are moved to %s', sorted(steps), aside)
    self._manager.reload()

  def _name_missing(self, step, refused):
    newest = self._newest_saved()
    if newest > max([step, *refused]):
      logging.warning('checkpoint %d was saved, and is not there any more', newest)

  def _newest_saved(self):
    """The step of the newest checkpoint that is known to have been saved; 0 for none."""
    try:
      return int(json.loads(self._record.read_bytes())['newest'])
    except (OSError, ValueError, KeyError, TypeError):
      return 0

  def read_meta(self):
    """`(step, meta)` of the newest checkpoint whose meta can be read, or None."""
    return next(self.metas(), None)

  def metas(self):
    """`(step, meta)` of all checkpoints whose meta can be read, the newest first."""
    for step in self.steps():
      try:
        meta = self._content(step)['meta']
      except Exception as error:
        logging.warning('%s', why(step, error))
        continue
      yield step, meta

  def checksums(self, step):
    """`{path of a leaf: [shape, type, checksum]}` of a checkpoint, as it was saved."""
    return self._content(step)['leaves']

  def steps(self):
    """Steps of all checkpoints, the newest first."""
    return sorted(self._manager.all_steps(), reverse=True)

  def _content(self, step):
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    stored = self._manager.restore(step, args=args).meta
    if stored['crc'] != checksum(stored['content']):
      raise Damaged('the checksum of its description is wrong')
    content = stored['content']
    if not (isinstance(content['meta'], dict) and isinstance(content['leaves'], dict)):
      raise Damaged('its description holds something else')
    return content

  def _leaves(self, step, described, target):
    """The numbers of all leaves, checked."""
    filled = {path: x for path, x in target.items() if x.size}
    args = ocp.args.Composite(state=ocp.args.StandardRestore(filled))
    leaves = self._manager.restore(step, args=args).state
    for path, leaf in leaves.items():
      if zlib.crc32(np.asarray(leaf).tobytes()) != described[path][-1]:
        raise Damaged(f'the checksum of {path} is wrong')
    empty = {path: x for path, x in target.items() if not x.size}
    return leaves | {
      p: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding) for p, x in empty.items()
    }


def told(step=0):
  """The step that the first process tells to all others."""
  return int(multihost_utils.broadcast_one_to_all(np.int32(step)))


def why(step, error):
  """Why a checkpoint is passed over."""
  if isinstance(error, Mismatch):
    return str(error)
  return f'checkpoint {step} is damaged ({reason(error)})'


def check_own(step, content, identity):
  """Raises Mismatch for a checkpoint of another step or of another run."""
  if (saved_as := content.get('step', step)) != step:
    raise Mismatch(f'checkpoint {step} is another one: it was saved as that of step {saved_as}')
  if name := other_name(content['meta'], identity):
    raise Mismatch(f'checkpoint {step} is of a run with another {name}')


def other_name(meta, identity):
  """The first name in which the identity that `meta` holds differs, or None.

  Names that only one of the two has are passed over: earlier versions knew fewer.
  """
  saved = meta.get('identity', {})
  return next((n for n, value in saved.items() if n in identity and value != identity[n]), None)


def check_alike(step, described, like):
  """Raises Mismatch that names the first leaf that differs; orbax would cast types silently."""
  expected = {path: describe(leaf) for path, leaf in flatten(like).items()}
  for path in [*expected, *described]:
    if path not in described or path not in expected:
      where = 'this run' if path in expected else 'the checkpoint'
      raise Mismatch(f'checkpoint {step} is of another run: only {where} has {path}')
    (shape, dtype), (old_shape, old_dtype) = expected[path], described[path][:2]
    if (shape, dtype) != (old_shape, old_dtype):
      raise Mismatch(
        f'checkpoint {step} is of another run: {path} is {old_dtype}{old_shape} there, '
        f'and {dtype}{shape} here'
      )


def checksum(content):
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def reason(error):
  text = ' '.join(str(error).split())
  # What the disk said stands at the end of a long sentence of tensorstore.
  if code := re.search(r"os_error_code='(\d+)'", text):
    return os.strerror(int(code[1]))
  if isinstance(error, OSError) and error.errno:
    return os.strerror(error.errno)
  return f'{type(error).__name__}: {text[:200]}' if text else type(error).__name__
