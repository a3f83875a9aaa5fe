"""Saves and restores the state of a run. The one file that imports orbax.

Every leaf has a checksum, since a flipped bit restores without a word. A checkpoint that is damaged
is passed over for the one before; a run with checkpoints of which none can be read does not
silently begin anew.
"""

import json
import logging
import pathlib
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp


class Damaged(Exception):
  """A checkpoint whose content is not what was saved."""


class Checkpoints:
  """The checkpoints in one folder; a context manager that waits for the last save at its end."""

  def __init__(self, directory, keep=3, read_only=False):
    """`keep` newest ones stay; older ones are deleted. With `read_only` nothing is changed."""
    self.directory, self.read_only = pathlib.Path(directory).absolute(), read_only
    options = (
      ocp.CheckpointManagerOptions(create=False, enable_async_checkpointing=False)
      if read_only
      else ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=True, cleanup_tmp_directories=True
      )
    )
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
    """Waits for the save under way; raises what went wrong in it."""
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
    finally:
      self._manager.close()

  def save(self, step, state, meta=None):
    """Saves in the background; the arrays may change or be donated once this returns.

    Args:
      step: a whole number, above that of every checkpoint there is.
      state: a pytree of arrays, typed keys among them.
      meta: a dict that JSON can hold.

    Raises:
      ValueError: there is a checkpoint of this or a later step.
      Exception: the save before this one has failed.
    """
    self._manager.wait_until_finished()
    self._manager.check_for_errors()
    # Copies of our own: what is written later cannot be touched by the steps that run meanwhile.
    leaves = {path: np.array(raw(leaf)) for path, leaf in flatten(state).items()}
    sums = {path: zlib.crc32(leaf.tobytes()) for path, leaf in leaves.items()}
    described = {path: [*describe(leaf), sums[path]] for path, leaf in flatten(state).items()}
    content = {'meta': meta or {}, 'leaves': described}
    saved = self._manager.save(
      step,
      args=ocp.args.Composite(
        # orbax refuses empty arrays, such as the beta of a search without a topology.
        state=ocp.args.StandardSave({path: x for path, x in leaves.items() if x.size}),
        meta=ocp.args.JsonSave({'content': content, 'crc': checksum(content)}),
      ),
    )
    if not saved:
      raise ValueError(
        f'no checkpoint was saved at step {step}: {self.directory} already has one of step '
        f'{self._manager.latest_step()}'
      )

  def restore_latest(self, like):
    """The newest checkpoint that is whole.

    Newer ones that are damaged are deleted, so that their steps can be saved again.

    Args:
      like: a state of the same structure, shapes and types, of arrays or ShapeDtypeStructs; the
        restored leaves are placed on devices as these are.

    Returns:
      `(step, state, meta)`, or None where there are no checkpoints.

    Raises:
      ValueError: `like` has other leaves than what was saved, or no checkpoint can be read.
    """
    broken, target = [], {path: abstract(leaf) for path, leaf in flatten(like).items()}
    for step in self.steps():
      try:
        content = self._content(step)
        check_alike(step, content['leaves'], like)
        leaves = self._leaves(step, content['leaves'], target)
      except Mismatch as error:
        raise ValueError(str(error)) from None
      except Exception as error:  # the type depends on which file is damaged, and how
        logging.warning('checkpoint %d is damaged (%s)', step, reason(error))
        broken.append(step)
        continue
      for damaged in () if self.read_only else broken:
        self._manager.delete(damaged)
      restored = [wrap(leaves[path], leaf) for path, leaf in flatten(like).items()]
      return step, jax.tree.unflatten(jax.tree.structure(like), restored), content['meta']
    if broken:
      raise ValueError(
        f'none of the checkpoints in {self.directory} can be restored (steps {broken}); '
        'move them away to begin anew'
      )
    return None

  def read_meta(self):
    """`(step, meta)` of the newest checkpoint whose meta can be read, or None."""
    for step in self.steps():
      try:
        return step, self._content(step)['meta']
      except Exception as error:
        logging.warning('checkpoint %d is damaged (%s)', step, reason(error))
    return None

  def steps(self):
    """Steps of all checkpoints, the newest first."""
    return sorted(self._manager.all_steps(), reverse=True)

  def _content(self, step):
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    stored = self._manager.restore(step, args=args).meta
    if stored['crc'] != checksum(stored['content']):
      raise Damaged('the checksum of its description is wrong')
    return stored['content']

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


class Mismatch(Exception):
  """A whole checkpoint of another state."""


def flatten(tree):
  """`{"['params']['kernel']": leaf, ...}`"""
  return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def is_key(leaf):
  return hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def raw(leaf):
  """A leaf as numbers: a typed key as its words."""
  return jax.random.key_data(leaf) if is_key(leaf) else leaf


def wrap(numbers, like):
  if not is_key(like):
    return numbers
  kinds = []
  jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), like)
  return jax.random.wrap_key_data(numbers, impl=kinds[0])


def describe(leaf):
  """`(shape, name of the type)`"""
  leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
  return list(leaf.shape), str(leaf.dtype)


def abstract(leaf):
  """What orbax is to restore for a leaf: numbers, and where they go."""
  leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
  sharding = getattr(leaf, 'sharding', None)
  numbers = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
  if sharding is not None and is_key(leaf) and isinstance(leaf, jax.Array):
    sharding = jax.random.key_data(leaf).sharding
  default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(numbers.shape, numbers.dtype, sharding=sharding or default)


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
  return f'{type(error).__name__}: {text[:200]}' if text else type(error).__name__
