"""Reads files in tar and zip archives, within bounds; unpacks nothing to disk.

An archive may come from a stranger, or through a bad network. No size in it is believed, and a tar
archive is read to its end, where the checksum of its compression is.
"""

import functools
import pathlib
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from stretchnas_jax.data.datasets import compression
from stretchnas_jax.data.datasets.compression import Refused

_MOST_UNPACKED = 512 * 2**20
"""Bytes that all members of an archive may have together."""

_MOST_MEMBERS = 1000
_MOST_READ = 2**20  # bytes of a piece, and of a list of members
_MOST_READS_AFTER = 16  # pieces after the last member; tar writes less than one
_MOST_HEADER = 2**16  # bytes that `tarfile` may read at once, to describe a member
_MOST_HEADERS = 2**21  # bytes that describe all members
# Some versions of `tarfile` take quadratic time for long numbers in a header.
_LONG_NUMBER = re.compile(rb'\d{100}')


def read(file: pathlib.Path, most: Mapping[str, int]) -> dict[str, bytes]:
  """Returns the wanted members of an archive by their names without folders.

  Args:
    file: a zip archive, or a tar archive, which may be compressed by gzip, bzip2 or xz.
    most: the largest size of each wanted member, in bytes.

  Raises:
    ValueError: names the archive, which is damaged or goes beyond a bound.
  """
  try:
    with open(file, 'rb') as packed:
      start = packed.read(4)
      packed.seek(0)
      if start == b'PK\3\4':
        return _read_zip(packed, most)
      return _read_tar(_Forwards(compression.pieces(packed, _MOST_READ)), most)
  except Refused as error:
    raise ValueError(f'{file} {error}') from error
  except MemoryError:
    raise
  except Exception as error:  # the libraries raise a dozen unrelated types for broken files
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(f'{file} is not a whole tar or zip archive ({reason})') from error


# ---- tar -----------------------------------------------------------------------------------------


class _Forwards:
  """An unpacked file that is read from its start to its end, for `tarfile`.

  Attributes:
    last: the last bytes that `read` gave.
  """

  def __init__(self, pieces: Iterator[bytes]) -> None:
    """Takes the content of the file in pieces."""
    self.last = b''
    self._allowed = _MOST_HEADERS
    self._pieces = pieces
    self._piece = b''
    self._start = 0  # of the unread part of the piece
    self._at = 0

  def tell(self) -> int:
    """Returns the number of bytes before the next one."""
    return self._at

  def read(self, count: int) -> bytes:
    """Returns the next bytes of a header, which may state how long it is."""
    if not 0 <= count <= min(_MOST_HEADER, self._allowed):
      raise Refused('describes its members with more bytes than an archive of a data set')
    self._allowed -= count
    self.last = self.take(count)
    if _LONG_NUMBER.search(self.last):
      raise Refused('has a number of a hundred digits in a header')
    return self.last

  def seek(self, place: int) -> None:
    """Goes forwards to a place."""
    if place < self._at:
      raise Refused('has members that overlap')
    for _ in self._next(place - self._at):
      pass

  def take(self, count: int) -> bytes:
    """Returns the next bytes, fewer only at the end of the file."""
    return b''.join(self._next(count))

  def _next(self, count: int) -> Iterator[bytes]:
    """Yields the next bytes in pieces."""
    if self._at + count > _MOST_UNPACKED:
      raise Refused(f'unpacks to more than {_MOST_UNPACKED} bytes, more than such a data set has')
    while count > 0:
      if self._start == len(self._piece):
        self._piece, self._start = next(self._pieces, b''), 0
        if not self._piece:
          return
      part = self._piece[self._start : self._start + count]
      self._start += len(part)
      self._at += len(part)
      count -= len(part)
      yield part


def _read_tar(unpacked: _Forwards, most: Mapping[str, int]) -> dict[str, bytes]:
  """Returns the wanted members of a tar archive, and reads it to its end."""
  blobs: dict[str, bytes] = {}
  number = 0
  file: Any = unpacked
  with tarfile.TarFile(fileobj=file) as archive:  # Opening reads the first header.
    while (member := archive.next()) is not None:
      number += 1
      if number > _MOST_MEMBERS:
        raise Refused(f'has more than {_MOST_MEMBERS} members')
      name = pathlib.PurePosixPath(member.name).name
      if name not in most or member.isdir():
        continue
      if not member.isreg() or member.issparse():
        raise Refused(f'has a link or a sparse file as its member {name}; it must be a plain file')
      _check_member(name, member.size, most, blobs)
      blobs[name] = unpacked.take(member.size)
      if len(blobs[name]) < member.size:
        raise EOFError(f'it ends inside its member {name}')
  # `tarfile` takes a damaged header for the end, which is a block of zeros.
  if unpacked.last.strip(b'\0'):
    raise EOFError(f'the header before byte {unpacked.tell()} is damaged')
  for _ in range(_MOST_READS_AFTER):
    if not unpacked.take(_MOST_READ):
      return blobs
  raise Refused(f'goes on for {_MOST_READS_AFTER * _MOST_READ} bytes after its last member')


def _check_member(
  name: str, size: int, most: Mapping[str, int], found: Mapping[str, bytes]
) -> None:
  """Raises Refused for a second member of a name, and for one that is too large."""
  if name in found:
    raise Refused(f'has two members with the name {name}')
  if size > most[name]:
    raise Refused(f'has a member {name} of {size} bytes; it can have at most {most[name]}')


# ---- zip -----------------------------------------------------------------------------------------


class _Bounded:
  """An open file for `zipfile` that refuses to read much at once."""

  def __init__(self, file: BinaryIO) -> None:
    """Takes the file."""
    self._file = file
    self.seek, self.tell = file.seek, file.tell
    self.seekable = file.seekable

  def read(self, count: int = -1) -> bytes:
    """Returns the next bytes; a list of members is the only thing that can be too long."""
    if count < 0:
      place = self.tell()
      count = self.seek(0, 2) - place
      self.seek(place)
    if count > _MOST_READ:
      raise Refused(f'has a list of members of {count} bytes')
    return self._file.read(count)


def _read_zip(packed: BinaryIO, most: Mapping[str, int]) -> dict[str, bytes]:
  """Returns the wanted members of a zip archive; each has a checksum of its own."""
  blobs: dict[str, bytes] = {}
  bounded: Any = _Bounded(packed)
  with zipfile.ZipFile(bounded) as archive:
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
      raise Refused(f'has more than {_MOST_MEMBERS} members')
    for member in members:
      name = pathlib.PurePosixPath(member.filename).name
      if name not in most or member.is_dir():
        continue
      if stat.S_ISLNK(member.external_attr >> 16):
        raise Refused(f'has a link as its member {name}; it must be a plain file')
      if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f'has its member {name} in a compression other than deflate')
      _check_member(name, member.file_size, most, blobs)
      with archive.open(member) as file:
        blobs[name] = b''.join(iter(functools.partial(file.read, _MOST_READ), b''))
      if len(blobs[name]) < member.file_size:
        raise EOFError(f'it ends inside its member {name}')
  return blobs
