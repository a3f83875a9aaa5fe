"""Draws a picture of cells into a PNG file."""

import functools
import io
import zlib

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from stretchnas_jax.views.boxes import Box
from stretchnas_jax.views.cell_layout import points_of
from stretchnas_jax.views.cell_picture import (
  FONT_SIZE,
  GREY,
  INK,
  Curve,
  DrawnNode,
  Heading,
  Label,
  Picture,
  arrow_head,
)
from stretchnas_jax.views.svg import printable

MARK = 'stretchnas_jax'
"""The name of the text in a PNG file that holds the checksum of its pixels."""


def to_png(picture: Picture, scale: int) -> bytes:
  """Returns a picture as the content of a PNG file.

  Args:
    picture: the parts of the drawing.
    scale: pixels of the file for one pixel of the picture.
  """
  fine = 2 * scale  # The image is drawn twice as large and then reduced, for smooth edges.
  image = Image.new('RGB', _image_size(picture, fine), '#ffffff')
  pen = _Pen(ImageDraw.Draw(image), fine)
  for curve in picture.curves:
    pen.curve(curve)
  for node in picture.nodes:
    pen.node(node)
  for label in picture.labels:
    pen.label(label)
  for heading in picture.headings:
    pen.heading(heading)
  reduced = image.resize(_image_size(picture, scale), Image.Resampling.LANCZOS)
  info, buffer = PngInfo(), io.BytesIO()
  info.add_text(MARK, checksum(reduced))
  reduced.save(buffer, 'PNG', pnginfo=info)
  return buffer.getvalue()


def checksum(image: Image.Image) -> str:
  """Returns a short text that changes with every pixel of an image."""
  return f'{zlib.crc32(image.tobytes()):08x}'


def _image_size(picture: Picture, scale: int) -> tuple[int, int]:
  """Returns the width and height of the image in its own pixels."""
  return round(picture.width * scale), round(picture.height * scale)


class _Pen:
  """Draws the parts of a picture with a scale."""

  def __init__(self, draw: ImageDraw.ImageDraw, scale: int) -> None:
    self._draw = draw
    self._scale = scale

  def curve(self, curve: Curve) -> None:
    """Draws a line and its arrow head."""
    self._line(points_of(curve.pieces), curve.colour, curve.width)
    head = arrow_head(*curve.pieces[-1][-1])
    scaled = [(x * self._scale, y * self._scale) for x, y in head]
    self._draw.polygon(scaled, fill=curve.colour)

  def node(self, node: DrawnNode) -> None:
    """Draws the box of a node with its name in it."""
    # Pillow has no dashed lines. The border of an unused node is paler instead.
    border = GREY if node.dashed else INK
    self._draw.rounded_rectangle(
      self._corners(node.box),
      6 * self._scale,
      fill=node.fill,
      outline=border,
      width=self._scale,
    )
    if node.subscript:
      self._subscripted(node)
    else:
      self._text(node.box.x, node.box.y, node.text, INK, FONT_SIZE + 1)

  def label(self, label: Label) -> None:
    """Draws a white box with the name of an operation in it."""
    self._draw.rectangle(self._corners(label.box), fill='#ffffff')
    self._text(label.box.x, label.box.y, label.text, label.colour, FONT_SIZE)

  def heading(self, heading: Heading) -> None:
    """Draws a heading."""
    self._text(heading.x, heading.y, heading.text, INK, heading.size, anchor='lm')

  def _line(self, points: Float[np.ndarray, 'n 2'], colour: str, width: float) -> None:
    scaled = [tuple(point) for point in points * self._scale]
    self._draw.line(scaled, fill=colour, width=round(width * self._scale), joint='curve')

  def _subscripted(self, node: DrawnNode) -> None:
    """Draws a name and its subscript side by side, centred."""
    size, small = FONT_SIZE + 2, FONT_SIZE - 2
    width = _font(size).getlength(node.text)
    left = node.box.x - (width + _font(small).getlength(node.subscript)) / 2
    self._text(left, node.box.y, node.text, INK, size, anchor='lm')
    right = left + width + 0.5
    self._text(right, node.box.y + 4, node.subscript, INK, small, anchor='lm')

  def _text(
    self, x: float, y: float, text: str, colour: str, size: int, anchor: str = 'mm'
  ) -> None:
    # The middle of the font lies a little below the middle of its letters.
    where = (x * self._scale, (y - 0.5) * self._scale)
    font = _font(size * self._scale)
    self._draw.text(where, printable(text), fill=colour, font=font, anchor=anchor)

  def _corners(self, box: Box) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of a box in the image."""
    x, y = self._scale * box.x, self._scale * box.y
    half_width, half_height = self._scale * (box.width / 2), self._scale * (box.height / 2)
    return x - half_width, y - half_height, x + half_width, y + half_height


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
  """Returns Pillow's own font."""
  return ImageFont.load_default(size)  # pyrefly: ignore[bad-return]
