"""Draws a cell: `python -m stretchnas_jax.draw GENOTYPE --out=cells.svg`."""

import logging
import pathlib
import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.runs import find_cell
from stretchnas_jax.views import cells

OPTIONS = (
  app.Option('out', 'cells.svg', 'the file to write; .svg or .png'),
  app.Option('title', None, 'a line above the drawing'),
  app.Option('scale', 2, 'pixels of a PNG for each unit of the SVG, 1 to 8'),
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Checks all arguments; returns the function that draws."""
  cell, out = find_cell.genotype_from(args.genotype), pathlib.Path(args.out)
  if out.suffix not in ('.svg', '.png'):
    raise ValueError(f'--out is {args.out!r}; its name must end in .svg or .png')
  if not out.parent.is_dir():
    raise ValueError(f'--out is {args.out!r}; there is no folder {str(out.parent)!r}')
  if not 1 <= args.scale <= 8:
    raise ValueError(f'--scale is {args.scale}; it must be from 1 to 8')

  def work() -> None:
    """Draws the cell."""
    if out.suffix == '.svg':
      out.write_text(cells.svg(cell, title=args.title), 'utf-8')
    else:
      cells.png(cell, out, title=args.title, scale=args.scale)
    logging.info('wrote %s', out)

  return work


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('genotype',))


if __name__ == '__main__':
  main()
