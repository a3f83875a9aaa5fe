"""Image files as a stranger may make them: damaged, or small files that stand for large images."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from experiments.reliability import corpus

MOST_PIXELS = 89_478_485  # Pillow's own limit
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types of PNG


def png(width: int, height: int, color: int = 2, bits: int = 8, before: bytes = b'') -> bytes:
  """Returns a whole PNG file of zeros.

  Args:
    width: in pixels.
    height: in pixels.
    color: the colour type, for example 2 for RGB and 6 for RGB with transparency.
    bits: of a channel, 8 or 16.
    before: chunks that stand before the pixels.
  """
  packer = zlib.compressobj(1)
  rows = bytes((1 + width * _CHANNELS[color] * bits // 8) * max(1, 2**20 // max(1, width)))
  left = (1 + width * _CHANNELS[color] * bits // 8) * height
  parts = []
  while left > 0:
    parts.append(packer.compress(rows[:left]))
    left -= len(rows)
  if color == 3:
    before += corpus.chunk(b'PLTE', bytes(768)) + corpus.chunk(b'tRNS', bytes(range(256)))
  head = struct.pack('>IIBBBBB', width, height, bits, color, 0, 0, 0)
  return b''.join(
    [
      b'\x89PNG\r\n\x1a\n',
      corpus.chunk(b'IHDR', head),
      before,
      corpus.chunk(b'IDAT', b''.join([*parts, packer.flush()])),
      corpus.chunk(b'IEND', b''),
    ]
  )


def _of_pillow(kind: str, mode: str, **options: bool | int | str) -> Callable[[int], bytes]:
  """Returns a function that writes an image of one colour with a number of pixels."""

  def write(pixels: int) -> bytes:
    out = io.BytesIO()
    # Some writers need more memory than the readers.
    side = int((pixels / 3 if kind in ('JPEG2000', 'WEBP', 'AVIF') else pixels) ** 0.5)
    Image.new(mode, (side, side)).save(out, kind, **options)
    return out.getvalue()

  return write


def _of_png(color: int, bits: int = 8) -> Callable[[int], bytes]:
  """Returns a function that writes a PNG file with a number of pixels."""
  return lambda pixels: png(9000, max(1, pixels // 9000), color, bits)


BOMBS: dict[str, Callable[[int], bytes]] = {
  'PNG, RGB': _of_png(2),
  'PNG, RGB with transparency': _of_png(6),
  'PNG, RGB with transparency of 16 bits': _of_png(6, 16),
  'PNG, grey': _of_png(0),
  'PNG, one row': lambda pixels: png(pixels, 1, 0),
  'PNG, one column': lambda pixels: png(1, pixels // 90, 0),
  'PNG, grey of 16 bits': _of_png(0, 16),
  'PNG, grey with transparency': _of_png(4),
  'PNG, palette with transparency': _of_png(3),
  'JPEG': _of_pillow('JPEG', 'RGB'),
  'JPEG, CMYK': _of_pillow('JPEG', 'CMYK'),
  'JPEG 2000': _of_pillow('JPEG2000', 'RGB'),
  'JPEG 2000 with transparency': _of_pillow('JPEG2000', 'RGBA'),
  'WebP': _of_pillow('WEBP', 'RGBA'),
  'AVIF': _of_pillow('AVIF', 'RGB', speed=10),
  'GIF': _of_pillow('GIF', 'P'),
  'TIFF': _of_pillow('TIFF', 'RGBA', compression='tiff_adobe_deflate'),
  'TIFF of 32 bits': _of_pillow('TIFF', 'I', compression='tiff_lzw'),
  'TIFF, LAB': _of_pillow('TIFF', 'LAB', compression='packbits'),
}
"""By name, writers of images of one colour; the argument is the number of pixels."""


def _zeros(size: int) -> bytes:
  return zlib.compress(bytes(size), 9)


def _many_frames(number: int) -> bytes:
  """Returns a GIF of many frames."""
  image = bytes.fromhex('2c00000000010001000002024401 00'.replace(' ', ''))
  head = b'GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff'
  return head + image * (number % 9000) + b';'


def _tiff(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
  """Returns a TIFF file of one directory: tag, type, count and value of each entry."""
  body = b''.join(struct.pack('<HHII', *entry) for entry in entries)
  return b'II*\0\x08\0\0\0' + struct.pack('<H', len(entries)) + body + struct.pack('<I', following)


_GREY = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]


ATTACKS: dict[str, Callable[[int], bytes]] = {
  'a long image': lambda n: png(1 + n * 7919 % 2**20, 1 + n % 3),
  'a high image': lambda n: png(1 + n % 3, 1 + n * 7919 % 2**20),
  'text that unpacks to much': lambda n: png(
    4, 4, before=corpus.chunk(b'zTXt', b'a\0\0' + _zeros(2**20 + n % 2**22))
  ),
  'much text': lambda n: png(
    4, 4, before=corpus.chunk(b'zTXt', b'a\0\0' + _zeros(2**20 - 99)) * (n % 200)
  ),
  'a profile that unpacks to much': lambda n: png(
    4, 4, before=corpus.chunk(b'iCCP', b'a\0\0' + _zeros(2**20 + n % 2**24))
  ),
  'many chunks': lambda n: png(4, 4, before=corpus.chunk(b'tEXt', b'a\0b') * (n % 30_000)),
  'a long chunk': lambda n: png(4, 4)[:33] + struct.pack('>I', 2**31 - 1) + b'eXIf' + bytes(999),
  'many frames': _many_frames,
  'frames that are not there': lambda n: png(
    4, 4, before=corpus.chunk(b'acTL', struct.pack('>II', 2**31 - 1, 0))
  ),
  'more pixels than allowed': lambda n: corpus.bomb(10_000, 8_948 + n % 90_000),
  'more pixels than numbers': lambda n: corpus.bomb(2**31 - 1, 2**31 - 1 - n % 9),
  'fewer rows than stated': lambda n: corpus.bomb(9000, 9000),
  'a profile in many parts': lambda n: b'\xff\xd8' + (
    b'\xff\xe2\xff\xffICC_PROFILE\0\1\xff' + bytes(65_519)
  ) * (n % 300),
  'many segments': lambda n: b'\xff\xd8' + b'\xff\xe1\x00\x08Exif\0\0' * (n % 90_000),
  'a directory in itself': lambda n: _tiff(_GREY, following=8),
  'a tag of many values': lambda n: _tiff([*_GREY, (273, 4, 2**30, 8), (279, 4, 2**30, 8)]),
  'many tags': lambda n: _tiff([(40_000 + i, 2, 2**20, 0) for i in range(n % 9000)]),
  'a strip of many bytes': lambda n: _tiff([*_GREY, (273, 4, 1, 8), (279, 4, 1, 2**31 - 1)]),
  'plain numbers': lambda n: b'P3\n3000 3000\n255\n' + b'1 ' * (n % 300_000),
  'plain bits': lambda n: b'P1\n9000 9000\n' + b'1' * (n % 300_000),
  'a long header': lambda n: b'P6\n#' + b'x' * (n % 300_000) + b'\n4 4\n255\n' + bytes(48),
  'WebP without pixels': lambda n: b'RIFF' + struct.pack('<I', 2**31) + b'WEBPVP8X\n\0\0\0'
  b'\x10\0\0\0\xff\xff\xff\xff\xff\xff' + bytes(n % 99),
  'JPEG 2000 of one tile': lambda n: b'\xff\x4f\xff\x51\0\x2f\0\0' + struct.pack(
    '>8IH', 9000, 9000, 0, 0, 9000, 9000, 0, 0, 3
  ) + b'\7\1\1' * 3 + bytes(n % 99),
}  # fmt: skip
"""By name, small files; a number changes them."""


def draw(rng: np.random.Generator, large: bool = False) -> tuple[str, bytes]:
  """Returns the kind of a hostile image, and the file; some are only damaged, or whole.

  Args:
    rng: the source of chance.
    large: True for an image of many pixels in a small file.
  """
  if large:
    name = list(BOMBS)[rng.integers(len(BOMBS))]
    return name, BOMBS[name](int(rng.uniform(0.1, 1.02) * MOST_PIXELS))
  if rng.random() < 0.3:
    name = list(ATTACKS)[rng.integers(len(ATTACKS))]
    return name, ATTACKS[name](int(rng.integers(2**24)))
  name, data = corpus.some(corpus.images(), rng)
  changed = bytearray(data)
  for _ in range(rng.integers(0, 5) if changed else 0):
    place = rng.integers(min(len(changed), (40, 400, 2**24)[rng.integers(3)]))
    changed[place] = rng.integers(256)
  if rng.random() < 0.2:
    del changed[rng.integers(len(changed) + 1) :]
  return f'damaged {name}', bytes(changed)
