"""Fingerprints of data sets: short facts that change whenever a batch would change.

A run keeps the fingerprint of its data, and compares it when it resumes. So the same images may lie
at another place, and other images are never used without a word. Every fact has a name of its own,
so that a sentence can say which of them differs.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8

Fingerprint = dict[str, Any]
"""Facts by name, as JSON holds them."""

# Image files of fewer bytes in all are read as a whole, which takes well below a second.
_READ_AT_MOST = 128 * 2**20


def of_arrays(images: UInt8[np.ndarray, 'N H W C'], labels: Int[np.ndarray, 'N']) -> Fingerprint:
  """Returns the fingerprint of images in memory.

  Args:
    images: of one part of a data set.
    labels: of these images.

  Returns:
    `images` (their number), `shape`, `labels`, `contents`, and `contents in any order`.
  """
  images = np.ascontiguousarray(images)
  # A sum does not depend on the order. It tells an exchange of images from new images.
  total = sum(zlib.crc32(image) for image in images)
  return {
    'images': len(images),
    'shape': list(images.shape[1:]),
    'labels': _of_labels(labels),
    'contents': _short(hashlib.sha256(images.data)),
    'contents in any order': f'{total:x}',
  }


def of_files(paths: Sequence[str], labels: Int[np.ndarray, 'N']) -> Fingerprint:
  """Returns the fingerprint of image files.

  Args:
    paths: of the files; the folder that holds all of them does not count.
    labels: of these images.

  Returns:
    `images` (their number), `names`, `labels` and `sizes`. Few files are read, for `contents`; of
    many files only the `times` are taken.
  """
  # The first and the last text have no longer beginning in common than all texts have.
  root = os.path.dirname(os.path.commonprefix([min(paths), max(paths)])) if paths else ''
  statuses = [_status(path) for path in paths]
  few = sum(size for size, _ in statuses) <= _READ_AT_MOST
  return {
    'images': len(paths),
    'names': _of_texts(os.path.relpath(path, root) for path in paths),
    'labels': _of_labels(labels),
    'sizes': _of_texts(str(size) for size, _ in statuses),
    **(
      {'contents': _of_texts(_content(path) for path in paths)}
      if few
      else {'times': _of_texts(str(time) for _, time in statuses)}
    ),
  }


def of_records(version: str, labels: Int32[np.ndarray, 'N']) -> Fingerprint:
  """Returns the fingerprint of a part that TFDS has prepared.

  Args:
    version: a text that changes when the part is prepared in another way.
    labels: of its images.
  """
  return {'images': len(labels), 'version': version, 'labels': _of_labels(labels)}


def _status(path: str) -> tuple[int, int]:
  """Returns the size and the time of a file; (-1, -1) for a link to nothing."""
  try:
    status = os.stat(path)
  except OSError:  # the one who reads the file has a better sentence
    return -1, -1
  return status.st_size, status.st_mtime_ns


def _content(path: str) -> str:
  """Returns a sum of the content of a file; '' for a file that cannot be read."""
  if not os.path.isfile(path):  # opening a pipe would wait for ever
    return ''
  try:
    with open(path, 'rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError:  # the one who needs the image has a better sentence
    return ''


def _of_labels(labels: Int[np.ndarray, 'N']) -> str:
  return _short(hashlib.sha256(np.ascontiguousarray(labels, '<i8').data))


def _of_texts(texts: Iterable[str]) -> str:
  joined = '\0'.join(texts).encode('utf-8', 'surrogateescape')
  return _short(hashlib.sha256(joined))


def _short(found: Any) -> str:
  """Returns the first half of a SHA-256 sum, which is long enough for any accident."""
  return found.hexdigest()[:32]
