"""Draws the two cells of a genotype, as SVG text or as a PNG file."""

import os
import pathlib

from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.machine import files
from stretchnas_jax.views.cell_picture import picture
from stretchnas_jax.views.png import to_png
from stretchnas_jax.views.svg import to_svg


def svg(genotype: AnyGenotype, title: str | None = None) -> str:
  """Returns both cells as a self-contained SVG document.

  Args:
    genotype: the two cells, or one of NAS-Bench-201; equal genotypes give the same bytes.
    title: a line above both cells, or None.
  """
  return to_svg(picture(genotype, title))


def png(
  genotype: AnyGenotype, path: str | pathlib.Path, title: str | None = None, scale: int = 2
) -> None:
  """Writes both cells as a PNG file.

  Args:
    genotype: the two cells.
    path: the file.
    title: a line above both cells, or None.
    scale: pixels of the file for one pixel of the SVG.
  """
  files.replace(pathlib.Path(os.path.realpath(path)), to_png(picture(genotype, title), scale))
