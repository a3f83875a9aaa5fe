"""Tells a good checkpoint from a damaged one, and from that of another run.

Every leaf has a checksum, since orbax restores a flipped bit without complaint. The checksums stand
in the description of a checkpoint, which has a checksum of its own:

    {'content': {'step': 20, 'meta': {...}, 'leaves': {path: [shape, dtype, checksum]}}, 'crc': ...}
"""

import json
import os
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from stretchnas_jax.machine import leaves as leaves_lib


class Damaged(Exception):
  """A checkpoint whose content differs from the saved one."""


class Mismatch(Exception):
  """A whole checkpoint of another state, of another step or of another run."""


def describe(
  step: int, state: PyTree, numbers: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the description that is saved beside a state.

  Args:
    step: of the checkpoint.
    state: the state, for shapes and dtypes; its keys are typed.
    numbers: its leaves by their paths, as they are written.
    meta: facts of the caller, which JSON can hold.
  """
  leaves = {
    path: [*leaves_lib.describe(leaf), _checksum_of_leaf(numbers[path])]
    for path, leaf in leaves_lib.flatten(state).items()
  }
  content = {'step': step, 'meta': dict(meta), 'leaves': leaves}
  return {'content': content, 'crc': _checksum_of_json(content)}


def read(description: Any) -> dict[str, Any]:
  """Returns the content of a description.

  Raises:
    Damaged: its checksum is wrong, or it holds something else.
  """
  if description['crc'] != _checksum_of_json(description['content']):
    raise Damaged('the checksum of its description is wrong')
  content = description['content']
  if not (isinstance(content['meta'], dict) and isinstance(content['leaves'], dict)):
    raise Damaged('its description holds something else')
  return content


def check_leaves(leaves: Mapping[str, Any], described: Mapping[str, list]) -> None:
  """Raises Damaged where a restored leaf differs from the saved one.

  Args:
    leaves: restored numbers by their paths.
    described: `leaves` of a description.
  """
  for path, leaf in leaves.items():
    if _checksum_of_leaf(np.asarray(leaf)) != described[path][-1]:
      raise Damaged(f'the checksum of {path} is wrong')


def check_own(step: int, content: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
  """Raises Mismatch for a checkpoint of another step or of another run.

  Args:
    step: the name under which the checkpoint stands.
    content: of its description.
    identity: the values in which the checkpoints of a run agree.
  """
  # The first versions did not save the step.
  if (saved_as := content.get('step', step)) != step:
    raise Mismatch(f'checkpoint {step} is another one: it was saved as that of step {saved_as}')
  if name := other_name(content['meta'], identity):
    raise Mismatch(f'checkpoint {step} is of a run with another {name}')


def other_name(meta: Mapping[str, Any], identity: Mapping[str, Any]) -> str | None:
  """Returns the first name whose value differs, or None.

  A name that only one side has does not count, since earlier versions knew fewer of them.

  Args:
    meta: of a checkpoint; the identity of its run is `meta['identity']`.
    identity: of this run, `{name: value}`.
  """
  for name, value in meta.get('identity', {}).items():
    if name in identity and value != identity[name]:
      return name
  return None


def check_alike(step: int, described: Mapping[str, list], like: PyTree) -> None:
  """Raises Mismatch, with the first leaf that differs; orbax casts dtypes without complaint.

  Args:
    step: of the checkpoint.
    described: `leaves` of its description.
    like: the state that is to be restored.
  """
  expected = {path: leaves_lib.describe(leaf) for path, leaf in leaves_lib.flatten(like).items()}
  for path in [*expected, *described]:
    if path not in described or path not in expected:
      where = 'this run' if path in expected else 'the checkpoint'
      raise Mismatch(f'checkpoint {step} is of another run: only {where} has {path}')
    shape, dtype = expected[path]
    old_shape, old_dtype = described[path][:2]
    if (shape, dtype) != (old_shape, old_dtype):
      raise Mismatch(
        f'checkpoint {step} is of another run: {path} is {old_dtype}{old_shape} there, '
        f'and {dtype}{shape} here'
      )


def why_refused(step: int, error: Exception) -> str:
  """Returns the sentence for a checkpoint that cannot be used.

  Args:
    step: of the checkpoint.
    error: the exception that reading it has raised.
  """
  if isinstance(error, Mismatch):
    return str(error)
  return f'checkpoint {step} is damaged ({reason(error)})'


def reason(error: Exception) -> str:
  """Returns the cause of an error in a few words: those of the system where it comes from there."""
  text = ' '.join(str(error).split())
  # tensorstore puts the number of the system's error at the end of a long sentence.
  if code := re.search(r"os_error_code='(\d+)'", text):
    return os.strerror(int(code[1]))
  if isinstance(error, OSError) and error.errno:
    return os.strerror(error.errno)
  return f'{type(error).__name__}: {text[:200]}' if text else type(error).__name__


def _checksum_of_leaf(leaf: np.ndarray) -> int:
  return zlib.crc32(leaf.tobytes())


def _checksum_of_json(content: Any) -> int:
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())
