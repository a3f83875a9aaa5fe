"""The kept corpus of hostile input, from which the campaign draws."""

import functools
import io
import os
import pathlib
import pickle
import struct
import zlib
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

_Value = TypeVar('_Value')

_JSON = b"""{"normal": [["sep_conv_3x3", 0, 2], ["skip_connect", 1, 2]], "normal_concat": [2],
"reduce": [["max_pool_3x3", 0, 2], ["skip_connect", 1, 2]], "reduce_concat": [2]}"""
_DARTS = b"""Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=range(2, 3),
reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"""

TEXTS = (
  _JSON,
  _DARTS,
  _JSON.replace(b' 0, 2]', b' 0, 1e400]'),
  _JSON.replace(b' 0, 2]', b' 0, ' + b'9' * 5000 + b']'),
  _JSON.replace(b'[2]', b'[NaN]'),
  _JSON.replace(b'[2]', b'[-Infinity]'),
  _JSON.replace(b'"reduce"', b'"normal"'),
  _JSON.replace(b'sep_conv_3x3', b'<script>alert(1)</script>'),
  _JSON.replace(b'sep_conv_3x3', b'\\ud800'),
  _JSON.replace(b' 2]]', b' 999999999999999999]]'),
  b'[' * 50_000,
  b'{"normal":' * 9_000,
  b'(' * 50_000,
  b'Genotype(' * 9_000,
  b'"' * 50_000,
  b'\xff\xfe\x00',
  b'\xef\xbb\xbf' + _JSON,
  b'',
  b'\x00' * 1000,
  b' ' * 200_000,
  _DARTS.replace(b'range(2, 3)', b'range(0, 99999999999)'),
  _DARTS.replace(b'range(2, 3)', b'range(0, 999999)'),
  _DARTS.replace(b'[2]', b'__import__("os").system("true")'),
  b'__import__("os").system("true")',
  b'!!python/object/apply:os.system ["true"]',
  pickle.dumps({'normal': [1]}),
)

PIECES = (
  b'"', b"'", b'[', b']', b'{', b'}', b'(', b',', b'0', b'-1', b'1e999', b'NaN', b'null', b'true',
  b'\\u0000', b'\x00', b'\xff\xd8', b'\n', b'<', b'&', b']]>', b'99999999999999999999', b'../',
  b'\xed\xa0\x80', b'\xe2\x80\xae', b'IEND', b'IHDR', b'cos\nsystem\n', b'.',
)  # fmt: skip

MARKUP = (
  b'<script>alert(1)</script>',
  b'</text><image href="http://example.org/x.png"/>',
  b'" onload="alert(1)',
  b']]><!ENTITY x SYSTEM "file:///etc/passwd">&x;',
  b'&lt;&amp;&#0;',
  b'<!--',
  b'<?xml version="1.0"?>',
  'ünïcödé \u202e\u0000\ufffe\U0001f600'.encode(),
  b'a' * 20_000,
  b'\t\r\n\x0b\x1f',
)

VALUES = (
  None, True, False, -1, 0, 7, 2**70, -(2**70), 1e308, -0.5, '', 'x' * 10_000, '\x00', [], [[]],
  {}, {'a': {'b': 1}}, '../../etc/passwd', '${HOME}', '<b>', [1, 'a'], 'float64',
)  # fmt: skip


def some(values: Sequence[_Value], rng: np.random.Generator) -> _Value:
  """Returns one of some values.

  Args:
    values: at least one.
    rng: the source of chance.
  """
  return values[rng.integers(len(values))]


# ---- images --------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
  """Returns a chunk of a PNG file.

  Args:
    name: of the chunk, four letters.
    data: its content.
  """
  checked = name + data
  return struct.pack('>I', len(data)) + checked + struct.pack('>I', zlib.crc32(checked))


def bomb(width: int, height: int) -> bytes:
  """Returns a small PNG that claims to be large.

  Args:
    width: in pixels.
    height: in pixels.
  """
  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  rows = zlib.compress(bytes(2_000_000), 9)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
  """Returns an image as a file of this format."""
  out = io.BytesIO()
  image.save(out, kind, **options)
  return out.getvalue()


@functools.cache
def images() -> tuple[tuple[str, bytes], ...]:
  """Returns names and bytes of images of every format, and of files that only look like one."""
  noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
  rgb = Image.fromarray(noise)
  sixteen = Image.fromarray((noise[..., 0].astype(np.uint16) << 8) + 1)
  exif = Image.Exif()
  exif[0x0112] = 6
  wrong_exif = Image.Exif()
  wrong_exif[0x0112] = 99
  found = [(f'rgb.{kind.lower()}', _saved(rgb, kind)) for kind in ('PNG', 'JPEG', 'BMP', 'GIF')]
  found += [(f'rgb.{kind.lower()}', _saved(rgb, kind)) for kind in ('TIFF', 'WEBP', 'PPM', 'TGA')]
  found += [
    ('sixteen.png', _saved(sixteen, 'PNG')),
    ('sixteen.tif', _saved(sixteen, 'TIFF')),
    ('palette.png', _saved(rgb.convert('P'), 'PNG', transparency=bytes(range(200)))),
    ('one_bit.png', _saved(rgb.convert('1'), 'PNG')),
    ('alpha.png', _saved(rgb.convert('LA'), 'PNG')),
    ('cmyk.jpg', _saved(rgb.convert('CMYK'), 'JPEG')),
    ('cmyk.tif', _saved(rgb.convert('CMYK'), 'TIFF', compression='tiff_lzw')),
    ('lab.tif', _saved(rgb.convert('LAB'), 'TIFF')),
    ('float.tif', _saved(Image.fromarray(noise[..., 0].astype(np.float32)), 'TIFF')),
    ('nan.tif', _saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), 'TIFF')),
    ('animated.gif', _saved(rgb, 'GIF', save_all=True, append_images=[rgb.rotate(90)] * 3)),
    ('animated.png', _saved(rgb, 'PNG', save_all=True, append_images=[rgb.rotate(90)] * 3)),
    ('animated.webp', _saved(rgb, 'WEBP', save_all=True, append_images=[rgb.rotate(90)] * 3)),
    ('turned.jpg', _saved(rgb, 'JPEG', exif=exif)),
    ('turned.png', _saved(rgb, 'PNG', exif=wrong_exif)),
    ('tiny.png', _saved(Image.new('RGB', (1, 1)), 'PNG')),
    ('thin.png', _saved(Image.new('L', (1, 5000)), 'PNG')),
    ('large.png', bomb(20_000, 20_000)),
    ('wide.png', bomb(2**31 - 1, 1)),
    ('below_the_limit.png', bomb(4_000, 4_000)),
    ('text.png', _saved(rgb, 'PNG').replace(b'IEND', b'zTXt') + zlib.compress(bytes(10**6))),
    ('program.png', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n'),
    ('nothing.png', b''),
    ('zeros.jpg', bytes(5000)),
    ('page.jpg', b'<html>not found</html>'),
    ('archive.png', b'PK\x03\x04' + bytes(100)),
    ('icon.png', b'\x00\x00\x01\x00\x01\x00\x10\x10' + bytes(100)),
  ]  # fmt: skip
  return tuple(found)


_NAMES = (
  'plain', 'with space', '-rf', '$(true)', 'ünï', 'a\nb', 'x' * 200, '%s%n', "q'\"", '..x',
  b'\xff\xfe'.decode('utf-8', 'surrogateescape'),
)  # fmt: skip


def write_folder(place: pathlib.Path, rng: np.random.Generator) -> None:
  """Writes class folders with odd names, links that go in circles, and odd images.

  Args:
    place: the folder of the class folders.
    rng: the source of chance.
  """
  for name in rng.choice(_NAMES, int(rng.integers(1, 4)), replace=False):
    inside = place / str(name)
    inside.mkdir(parents=True)
    for i in range(rng.integers(0, 4)):
      file, data = some(images(), rng)
      (inside / f'{i}_{file}').write_bytes(data)
    if rng.random() < 0.2:
      os.symlink('loop.png', inside / 'loop.png')
    if rng.random() < 0.2:
      os.symlink('..', inside / 'up')
    if rng.random() < 0.1:
      os.mkfifo(inside / 'pipe.png')
  if rng.random() < 0.2:
    os.symlink('.', place / 'train')
  if rng.random() < 0.1:
    os.symlink('circle', place / 'circle')


# ---- CIFAR ---------------------------------------------------------------------------------------


class _Command:
  """An object that runs a program while it is unpickled, as a stranger's file may do."""

  def __reduce__(self) -> tuple[Any, tuple[str]]:
    return os.system, ('true',)


def cifar_files(rng: np.random.Generator) -> dict[str, bytes]:
  """Returns small files of CIFAR-10 by name; one of them may hold a forbidden object."""
  names = [*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']
  if rng.random() < 0.3:
    return {f'{name}.bin': bytes([1]) + bytes(3072) for name in names}
  contents = {name: {b'data': np.zeros((2, 3072), np.uint8), b'labels': [0, 9]} for name in names}
  odd = [
    {}, [], None, 3, _Command(), {b'data': _Command(), b'labels': [0]},
    {b'data': np.zeros((2, 3072), np.uint8), b'labels': [0, 10]},
    {b'data': np.zeros((2, 3072), np.uint8), b'labels': [0, -1]},
    {b'data': np.zeros((2, 3072), np.uint8), b'labels': [0, 2**80]},
    {b'data': np.zeros((2, 3072), np.uint8), b'labels': ['a', 'b']},
    {b'data': np.zeros((2, 3072), np.uint8), b'labels': [0.5, 1.0]},
    {b'data': np.zeros((2, 3072)), b'labels': [0, 1]},
    {b'data': np.zeros((0, 3072), np.uint8), b'labels': []},
    {b'data': np.zeros((2, 9), np.uint8), b'labels': [0, 1]},
    {b'data': np.array([_Command()], object), b'labels': [0]},
  ]  # fmt: skip
  if rng.random() < 0.7:
    contents[names[rng.integers(6)]] = odd[rng.integers(len(odd))]
  return {
    name: pickle.dumps(value, protocol=int(rng.integers(2, 6))) for name, value in contents.items()
  }
