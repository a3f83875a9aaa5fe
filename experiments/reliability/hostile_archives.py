"""Archives for readers of CIFAR, as a stranger or a bad network may make them."""

import bz2
import functools
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np

from experiments.reliability import hostile_pickles

_NAMES = (*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch')

PACK: dict[str, Callable[[bytes], bytes]] = {
  'tar': bytes,
  'gzip': lambda data: gzip.compress(data, 1),
  'bzip2': lambda data: bz2.compress(data, 1),
  'xz': lambda data: lzma.compress(data, preset=0),
}


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
  """Returns the header of a member of a tar archive.

  Args:
    name: of the member.
    size: that the header states.
    kind: for example a link.
  """
  info = tarfile.TarInfo(name)
  info.size, info.type, info.linkname = size, kind, '../../etc/passwd'
  return info.tobuf(tarfile.GNU_FORMAT)


def sparse(name: str, size: int) -> bytes:
  """Returns the header of a sparse member, which is a few bytes and stands for many zeros.

  Args:
    name: of the member.
    size: the number of zeros.
  """
  block = bytearray(header(name, 0, tarfile.GNUTYPE_SPARSE))
  block[386:410] = b'%011o\0%011o\0' % (0, 0)
  block[483:495] = b'%011o\0' % size
  block[148:156] = b'%06o\0 ' % (256 + sum(block[:148]) + sum(block[156:]))
  return bytes(block)


def _extended_sparse(number: int) -> bytes:
  """Returns a sparse member whose map goes on for many blocks."""
  block = bytearray(header('data_batch_1', 0, tarfile.GNUTYPE_SPARSE))
  block[482] = 1  # the map goes on
  block[148:156] = b'%06o\0 ' % (256 + sum(block[:148]) + sum(block[156:]))
  more = (b'%011o\0%011o\0' % (1, 1)) * 21 + b'\1' + bytes(7)
  return bytes(block) + more * (number % 3000)


def contents(rng: np.random.Generator) -> dict[str, bytes]:
  """Returns a small whole CIFAR-10: files by name.

  Args:
    rng: the source of chance.
  """
  rows = rng.integers(0, 256, (2, 3072), np.uint8)
  return {name: hostile_pickles.published(rows, [1, 2]) for name in _NAMES}


def tar(files: dict[str, bytes]) -> bytes:
  """Returns a tar archive.

  Args:
    files: contents by name.
  """
  parts = []
  for name, data in files.items():
    parts += [header(f'cifar-10-batches-py/{name}', len(data)), data, bytes(-len(data) % 512)]
  return b''.join([*parts, bytes(1024)])


def _zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w', method) as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  return out.getvalue()


_X = tarfile.XHDTYPE

ATTACKS: dict[str, Callable[[int], bytes]] = {
  'a member larger than the data set': lambda n: header('data_batch_1', 2**27 + n),
  'a member larger than a disk': lambda n: header('x', 2**43 + n),
  'a member of negative size': lambda n: header('x', -512 * (1 + n % 9)),
  'a sparse member': lambda n: sparse('data_batch_1', 2**31 + n),
  'a sparse member of another name': lambda n: sparse('x', 2**31 + n),
  'a long map of a sparse member': _extended_sparse,
  'a long extended header': lambda n: header('x', 2**30 + n, _X),
  'a long name': lambda n: header('x', 2**30 + n, tarfile.GNUTYPE_LONGNAME),
  'a long link': lambda n: header('x', 2**30 + n, tarfile.GNUTYPE_LONGLINK),
  'headers of headers': lambda n: header('x', 0, _X) * (n % 3000),
  'global headers': lambda n: header('x', 0, tarfile.XGLTYPE) * (n % 3000),
  'digits in a header': lambda n: header('x', 60_000, _X) + b'9' * 60_000 + bytes(416),
  'a negative size in a header': lambda n: header('x', 17, _X) + b'17 size=-1024000\n' + bytes(495),
  'thousands of members': lambda n: header('x') * (n % 9000),
  'thousands of links': lambda n: header('x', 0, tarfile.LNKTYPE) * (n % 9000),
  'a link': lambda n: header('data_batch_1', 0, tarfile.SYMTYPE),
  'a hard link': lambda n: header('data_batch_1', 0, tarfile.LNKTYPE),
  'a device': lambda n: header('data_batch_1', 0, tarfile.CHRTYPE),
  'the same member twice': lambda n: header('data_batch_1') * 2,
  'a folder of that name': lambda n: header('data_batch_1', 0, tarfile.DIRTYPE),
  'control sequences': lambda n: header('\x1b]0;owned\x07', 2**40),
  'no content': lambda n: b'',
  'zeros': lambda n: bytes(n % 2**22),
  'text': lambda n: b'<html>not found</html>' * (n % 99),
}
"""By name, what stands at the start of an unpacked tar archive; a number changes it."""

LARGE: dict[str, Callable[[int], bytes]] = {
  'zeros without end, by gzip': lambda n: gzip.compress(bytes(2**24)) * (1 + n % 60),
  'zeros without end, by bzip2': lambda n: bz2.compress(bytes(2**24)) * (1 + n % 60),
  'zeros without end, by xz': lambda n: lzma.compress(bytes(2**24)) * (1 + n % 60),
  'a large unused member': lambda n: lzma.compress(header('x', 2**28)) + (
    lzma.compress(bytes(2**24)) * 16
  ),
  'as large as allowed': lambda n: gzip.compress(header('data_batch_1', 60 * 2**20)) + (
    gzip.compress(bytes(2**20)) * 60
  ),
}  # fmt: skip
"""By name, whole archives that unpack to much more than their size."""


def _lying_zip(number: int) -> bytes:
  """Returns a zip archive whose list states other sizes than its members."""
  data = bytearray(_zip(contents(np.random.default_rng(number))))
  place = data.rindex(b'PK\1\2')
  field = (10, 20, 24, 28, 42)[number % 5]
  data[place + field : place + field + 4] = struct.pack('<I', number * 7919 % 2**32)
  return bytes(data)


_ZIPS: dict[str, Callable[[int], bytes]] = {
  'a zip of zeros': lambda n: _zip({'data_batch_1': bytes(n % 2**24)}),
  'a zip that lies': _lying_zip,
  'a zip of many members': lambda n: _zip({f'{i}': b'' for i in range(n % 1500)}),
  'a zip by bzip2': lambda n: _zip(contents(np.random.default_rng(n)), zipfile.ZIP_BZIP2),
}


def _damaged(data: bytes, rng: np.random.Generator) -> bytes:
  """Returns an archive with flipped bits, cut, or with more bytes."""
  changed = bytearray(data)
  for _ in range(rng.integers(0, 3)):
    changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
  if rng.random() < 0.2:
    del changed[rng.integers(len(changed)) :]
  if rng.random() < 0.1:
    changed += rng.bytes(int(rng.integers(1, 600)))
  return bytes(changed)


def draw(rng: np.random.Generator, large: bool = False) -> tuple[str, bytes]:
  """Returns the kind of a hostile archive, and the archive; some are only damaged, or whole.

  Args:
    rng: the source of chance.
    large: True for one of those that unpack to much more than their size.
  """
  number, pack = int(rng.integers(2**24)), PACK[list(PACK)[rng.integers(len(PACK))]]
  if large:
    name = list(LARGE)[rng.integers(len(LARGE))]
    return name, LARGE[name](number)
  choice = rng.random()
  if choice < 0.4:
    name = list(ATTACKS)[rng.integers(len(ATTACKS))]
    return name, pack(ATTACKS[name](number) + bytes(2048))
  if choice < 0.5:
    name = list(_ZIPS)[rng.integers(len(_ZIPS))]
    return name, _ZIPS[name](number)
  files = contents(rng)
  whole = _zip(files) if rng.random() < 0.2 else pack(tar(files))
  return 'damaged', _damaged(whole, rng)


@functools.cache
def whole(name: str) -> bytes:
  """Returns an undamaged small archive.

  Args:
    name: a member of `PACK` that has a checksum, or 'zip'.
  """
  files = contents(np.random.default_rng(0))
  return _zip(files) if name == 'zip' else PACK[name](tar(files))


def flip(rng: np.random.Generator, large: bool = False) -> tuple[str, bytes]:
  """Returns the name of an archive with a checksum, and the archive with one to three flipped bits.

  Args:
    rng: the source of chance.
    large: not used.
  """
  name = ('gzip', 'bzip2', 'xz', 'zip')[rng.integers(4)]
  changed = bytearray(whole(name))
  for _ in range(rng.integers(1, 4)):
    changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
  return f'flipped bits, {name}', bytes(changed)
