"""Unpacks compressed files piece by piece, within bounds, up to the checksum at their end."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

_MOST_STREAMS = 10_000  # compressed streams that follow one another
_XZ_MEMORY = 128 * 2**20  # xz -9 needs half of it
_PACKED = 2**14  # bytes that are unpacked at once


class Refused(ValueError):
  """Something that no archive of a data set has; the message goes on after the archive's name."""


class _Decompressor(Protocol):
  """Reads one compressed stream, and checks it at its end; `bz2` and `lzma` offer such objects."""

  @property
  def eof(self) -> bool:
    """True after the end of the stream."""
    ...

  @property
  def needs_input(self) -> bool:
    """True where all bytes given so far are unpacked."""
    ...

  @property
  def unused_data(self) -> bytes:
    """The bytes after the end of the stream."""
    ...

  def decompress(self, data: bytes, max_length: int, /) -> bytes:
    """Returns at most `max_length` of the next unpacked bytes."""
    ...


class _Gzip:
  """One stream of gzip, in the form of `_Decompressor`."""

  def __init__(self) -> None:
    """Begins a stream."""
    self._stream = zlib.decompressobj(31)  # a header and a checksum of gzip

  @property
  def eof(self) -> bool:
    """True after the end of the stream."""
    return self._stream.eof

  @property
  def needs_input(self) -> bool:
    """True where all bytes given so far are unpacked."""
    return not self._stream.unconsumed_tail

  @property
  def unused_data(self) -> bytes:
    """The bytes after the end of the stream."""
    return self._stream.unused_data

  def decompress(self, data: bytes, max_length: int, /) -> bytes:
    """Returns at most `max_length` of the next unpacked bytes."""
    return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


def _xz() -> lzma.LZMADecompressor:
  return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


_KINDS: dict[bytes, Callable[[], _Decompressor]] = {
  b'\x1f\x8b': _Gzip,
  b'BZh': bz2.BZ2Decompressor,
  b'\xfd7zXZ\0': _xz,
}
"""By the first bytes of a file."""


def pieces(packed: BinaryIO, most: int) -> Iterator[bytes]:
  """Returns the unpacked content of a file in pieces.

  Args:
    packed: the file, at its start. It is compressed by gzip, bzip2 or xz, or not at all. It may
      hold several compressed streams, with zeros between them.
    most: the most bytes of a piece.

  Raises:
    EOFError: the file ends inside a stream. The decompressors raise errors for damaged ones.
    Refused: there are too many streams.
  """
  start = packed.read(6)
  packed.seek(0)
  kind = next((begin for magic, begin in _KINDS.items() if start.startswith(magic)), None)
  return _unpacked(packed, kind, most) if kind else iter(lambda: packed.read(most), b'')


def _unpacked(packed: BinaryIO, begin: Callable[[], _Decompressor], most: int) -> Iterator[bytes]:
  """Yields the content of compressed streams, each of which is begun by a function."""
  data = packed.read(_PACKED)
  for _ in range(_MOST_STREAMS):
    stream = begin()
    while not stream.eof:
      if not data and stream.needs_input:
        data = packed.read(_PACKED)
        if not data:
          break
      piece, data = stream.decompress(data, most), b''
      if piece:
        yield piece
    if not stream.eof:
      while piece := stream.decompress(b'', most):
        yield piece
      if not stream.eof:
        raise EOFError('it ends inside a compressed stream')
    data = stream.unused_data.lstrip(b'\0')
    while not data:
      data = packed.read(_PACKED)
      if not data:
        return
      data = data.lstrip(b'\0')
  raise Refused(f'has more than {_MOST_STREAMS} compressed streams')
