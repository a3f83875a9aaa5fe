"""Pickles for readers of CIFAR: as Python 2 wrote them, and as a stranger may."""

import pickle
import struct
from collections.abc import Callable, Iterable, Sequence

import numpy as np

# ---- as published --------------------------------------------------------------------------------


class Python2:
  """Writes the opcodes of Python 2's cPickle in protocol 2, with NumPy's old module names."""

  def __init__(self) -> None:
    """Begins a file."""
    self._parts = [b'\x80\x02']
    self._stored = 0

  def content(self) -> bytes:
    """Returns the file."""
    return b''.join([*self._parts, b'.'])

  def add(self, opcodes: bytes, store: bool = True) -> None:
    """Writes opcodes.

    Args:
      opcodes: in any number.
      store: writes the opcode too that stores the value, as cPickle does for all but numbers.
    """
    self._parts.append(opcodes)
    if store:
      self._stored += 1
      is_short = self._stored < 256
      number = struct.pack('<B' if is_short else '<I', self._stored)
      self._parts.append((b'q' if is_short else b'r') + number)

  def text(self, text: bytes) -> None:
    """Writes a text."""
    length = struct.pack('<B' if len(text) < 256 else '<I', len(text))
    self.add((b'U' if len(text) < 256 else b'T') + length + text)

  def number(self, number: int) -> None:
    """Writes a whole number."""
    if 0 <= number < 2**16:
      one = number < 2**8
      self.add((b'K' if one else b'M') + struct.pack('<B' if one else '<H', number), store=False)
    else:
      self.add(b'J' + struct.pack('<i', number), store=False)

  def many(self, values: Iterable[int | bytes]) -> None:
    """Writes a list of numbers or texts."""
    self.add(b']')
    self.add(b'(', store=False)
    for value in values:
      if isinstance(value, bytes):
        self.text(value)
      else:
        self.number(int(value))
    self.add(b'e', store=False)

  def array(self, rows: np.ndarray) -> None:
    """Writes a table of bytes."""
    self.add(b'cnumpy.core.multiarray\n_reconstruct\n')
    self.add(b'cnumpy\nndarray\n')
    self.add(b'K\x00\x85')
    self.text(b'b')
    self.add(b'\x87')
    self.add(b'R')
    self.add(b'(K\x01', store=False)
    for side in rows.shape:
      self.number(side)
    self.add(b'\x86')
    self.add(b'cnumpy\ndtype\n')
    self.text(b'u1')
    self.add(b'K\x00K\x01\x87')
    self.add(b'R')
    self.add(b'(K\x03', store=False)
    self.text(b'|')
    self.add(b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t')
    self.add(b'b\x89', store=False)
    self.text(rows.tobytes())
    self.add(b't')
    self.add(b'b', store=False)


def published(
  rows: np.ndarray, labels: Sequence[int], coarse_labels: Sequence[int] | None = None
) -> bytes:
  """Returns a file of CIFAR-10 or CIFAR-100 in the layout of the published ones.

  Args:
    rows: uint8 `[N, 3072]`.
    labels: N numbers; the fine ones of CIFAR-100.
    coarse_labels: N numbers for CIFAR-100; None for CIFAR-10.
  """
  names = [b'leptodactylus_pentadactylus_s_%06d.png' % i for i in range(len(rows))]
  file = Python2()
  file.add(b'}')
  file.add(b'(', store=False)
  if coarse_labels is None:
    entries = {b'batch_label': b'training batch 1 of 5', b'labels': labels, b'data': rows}
    entries[b'filenames'] = names
  else:
    entries = {b'filenames': names, b'batch_label': b'training batch 1 of 1'}
    entries |= {b'fine_labels': labels, b'coarse_labels': coarse_labels, b'data': rows}
  for key, value in entries.items():
    file.text(key)
    if isinstance(value, bytes):
      file.text(value)
    elif isinstance(value, np.ndarray):
      file.array(value)
    else:
      file.many(value)
  file.add(b'u', store=False)
  return file.content()


# ---- as a stranger may ---------------------------------------------------------------------------

_TYPE = b'cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R'
_BUILT = _TYPE + b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
_EMPTY = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R'
_ENCODE = b'c_codecs\nencode\n'


def _filled(shape: bytes, kind: bytes = _BUILT, data: bytes = b'U\x02ab') -> bytes:
  """Returns the opcodes of an array."""
  return _EMPTY + b'(K\x01' + shape + kind + b'\x89' + data + b'tb'


def _with_labels(opcodes: bytes) -> bytes:
  """Returns the opcodes of a dictionary with two rows and other labels."""
  return (
    b'}U\x04data' + _filled(b'K\x02M\x00\x0c\x86', data=_ROWS) + b'sU\x06labels' + opcodes + b's'
  )


_ROWS = b'T' + struct.pack('<I', 2 * 3072) + bytes(2 * 3072)

ATTACKS: dict[str, Callable[[int], bytes]] = {
  'state of a type': lambda n: _TYPE + b'(K\x03U\x01|N(' + b'K\x01' * (n % 9) + b'tNJ\0\0\0\0K\0tb',
  'fields of a type': lambda n: _TYPE + b'(K\x03U\x01|NU\x01aU\x01bK\x08K\x08K\x10tb',
  'a type of objects': lambda n: b'cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R',
  'an array of objects': lambda n: _filled(b'K\x01\x85', b'cnumpy\ndtype\nU\x02O8K\0K\1\x87R'),
  'a type twice': lambda n: _BUILT + b'(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb',
  'an array twice': lambda n: _filled(b'K\x02\x85') + b'(K\x01K\x02\x85' + _BUILT + b'\x89U\2abtb',
  'a huge shape': lambda n: _filled(b'\x8a\x09' + b'\xff' * 8 + b'\x00\x85'),
  'a shape that wraps': lambda n: _filled(b'\x8a\x05\0\0\0\0\1' * 2 + b'\x86'),
  'a negative shape': lambda n: _filled(b'J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86'),
  'many sides': lambda n: _filled(b'(' + b'K\x01' * (n % 300) + b'K\x02t'),
  'a shape of arrays': lambda n: _filled(_filled(b'K\x02\x85') + b'\x85'),
  'a large empty array': lambda n: b'cnumpy\nndarray\nJ' + struct.pack('<I', 10**9) + b'\x85R',
  'a store far away': lambda n: b']r' + struct.pack('<I', 2**32 - 1 - n % 9),
  'a store further away': lambda n: b'Nr' + struct.pack('<I', 2**28 + n),
  'a long text': lambda n: b'T' + struct.pack('<I', 2**31 - 1),
  'a text of negative length': lambda n: b'T' + struct.pack('<i', -1 - n % 9),
  'a longer text': lambda n: b'\x8d' + struct.pack('<Q', 2**62 + n),
  'long bytes': lambda n: b'\x8e' + struct.pack('<Q', 2**33),
  'a long array of bytes': lambda n: b'\x96' + struct.pack('<Q', 2**33),
  'a long number': lambda n: b'\x8b' + struct.pack('<i', 2**30) + b'\xff' * 9,
  'a number of digits': lambda n: b'L' + b'9' * (1000 + n % 90_000) + b'L\n',
  'a long frame': lambda n: b'\x95' + struct.pack('<Q', 2**63),
  'nested lists': lambda n: b']' * (n % 90_000) + b'a' * (n % 90_000 - 1),
  'nested tuples': lambda n: b')' + b'\x85' * (n % 90_000),
  'nested labels': lambda n: _with_labels(b')' + b'\x85' * (n % 1000)),
  'many dictionaries': lambda n: b'}' * (n % 300_000),
  'many marks': lambda n: b'(' * (n % 300_000),
  'many texts': lambda n: b'(' + b'U\x00' * (n % 90_000) + b'l',
  'doubled lists': lambda n: b']q\0' + b']q\1(h\0h\0eq\0' * (5 + n % 200),
  'doubled labels': lambda n: _with_labels(b']q\0(K\1K\1e' + b'(h\0h\0lq\0' * (5 + n % 60)),
  'tenfold labels': lambda n: _with_labels(b']q\0' + b'](' + b'h\0' * 99 + b'eq\0' * (1 + n % 40)),
  'a list in itself': lambda n: b']q\0h\0a',
  'labels in themselves': lambda n: _with_labels(b']q\0h\0a'),
  'a key in itself': lambda n: b'}q\0h\0h\0s',
  'keys that collide': lambda n: b'}(' + b''.join(
    b'\x8a\x0a' + (i * (2**61 - 1)).to_bytes(10, 'little') + b'N' for i in range(n % 3000)
  ) + b'u',
  'a text many times': lambda n: _ENCODE + b'q\0T\0\1\0\0' + b'x' * 256 + b'q\1' + (
    b'h\0h\1U\x06latin1\x86R' * (n % 400)
  ),
  'another codec': lambda n: _ENCODE + b'X\1\0\0\0xU\x05' + (b'bz2__', b'utf_7', b'rot13')[n % 3]
  + b'\x86R',
  'a codec that never ends': lambda n: _ENCODE + b'X\4\0\0\0' + b'\xc3' * 4 + b'U\x0eunicode_escape'
  b'\x86R',
  'characters that are no bytes': lambda n: _ENCODE + b'X\4\0\0\0\xf0\x9f\x98\x80U\6latin1\x86R',
  'a program': lambda n: b'cos\nsystem\nU\x04true\x85R',
  'an attribute': lambda n: b'\x8c\x05numpy\x8c\x08load.__x\x93',
  'a name without an end': lambda n: b'c' + b'a' * (n % 90_000),
  'control sequences': lambda n: b'c\x1b]0;owned\x07\nx\x1b[2J\n',
  'an instance': lambda n: b'(ios\nsystem\n',
  'an object': lambda n: b'(cos\nsystem\nU\x04trueo',
  'a new object': lambda n: b'cnumpy\nndarray\n(J\xff\xff\xff\x7ft\x81',
  'an extension': lambda n: (b'\x82\1', b'\x83\1\1', b'\x84\1\1\1\1')[n % 3],
  'a persistent value': lambda n: (b'Pevil\n', b'NQ')[n % 2],
  'another buffer': lambda n: (b'\x97', b'N\x98')[n % 2],
  'another protocol': lambda n: b'\x80' + bytes([n % 256]),
}  # fmt: skip
"""By name, the opcodes of an attack; a number changes its size."""


def attack(name: str, number: int) -> bytes:
  """Returns a file with an attack.

  Args:
    name: a member of `ATTACKS`.
    number: changes its size.
  """
  return bytes([0x80, 2 + number % 4]) + ATTACKS[name](number) + b'.'


def _random(rng: np.random.Generator) -> bytes:
  """Returns opcodes at random, with arguments at random."""
  common = b'NKMJ()]}UTXCqrhjRbtaseu\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95c'
  parts = [b'\x80\x02']
  for _ in range(rng.integers(1, 60)):
    if rng.random() < 0.2:
      parts.append((_TYPE, _BUILT, _EMPTY, _ENCODE, _filled(b'K\x02\x85'))[rng.integers(5)])
    elif rng.random() < 0.9:
      parts.append(common[(at := int(rng.integers(len(common)))) : at + 1])
    else:
      parts.append(rng.bytes(1))
    parts.append(rng.bytes(int(rng.integers(0, 3))))
  return b''.join(parts) + b'.'


def draw(rng: np.random.Generator) -> tuple[str, bytes]:
  """Returns the kind of a hostile file, and the file; some are only damaged, or not even that.

  Args:
    rng: the source of chance.
  """
  choice = rng.random()
  if choice < 0.4:
    name = list(ATTACKS)[rng.integers(len(ATTACKS))]
    return name, attack(name, int(rng.integers(2**24)))
  if choice < 0.6:
    return 'random opcodes', _random(rng)
  rows, labels = rng.integers(0, 256, (2, 3072), np.uint8), [1, 2]
  data = published(rows, labels)
  if rng.random() < 0.5:
    data = pickle.dumps({'data': rows, b'labels': labels}, protocol=int(rng.integers(2, 6)))
  changed = bytearray(data)
  for _ in range(rng.integers(0, 4)):
    # The pixels are many, and most damage should hit the rest.
    places = rng.integers(200), -rng.integers(1, 200), rng.integers(len(changed))
    changed[places[rng.integers(3)]] = rng.integers(256)
  if rng.random() < 0.2:
    del changed[rng.integers(len(changed)) :]
  return 'damaged', bytes(changed)
