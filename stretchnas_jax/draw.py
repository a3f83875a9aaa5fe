"""Draws a cell: `python -m stretchnas_jax.draw GENOTYPE --out=cells.svg`."""

import logging
import pathlib
import types
from collections.abc import Callable

from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cli import app
from stretchnas_jax.machine import files
from stretchnas_jax.runs import find_cell, outputs
from stretchnas_jax.views import cells

OPTIONS = (
  app.Option('out', 'cells.svg', 'the file to write; .svg or .png'),
  app.Option('title', None, 'a line above the drawing'),
  app.Option('scale', 2, 'pixels of a PNG for each unit of the SVG, 1 to 8'),
  app.Option('force', False, 'replaces a file that this program did not write'),
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Checks all arguments; returns the function that draws."""
  cell, out = find_cell.genotype_from(args.genotype), pathlib.Path(args.out)
  if out.suffix not in ('.svg', '.png'):
    raise ValueError(f'--out is {args.out!r}; its name must end in .svg or .png')
  is_own = outputs.is_marked if out.suffix == '.svg' else outputs.is_own_png
  out = outputs.check_free(out, is_own, args.force)
  if not 1 <= args.scale <= 8:
    raise ValueError(f'--scale is {args.scale}; it must be from 1 to 8')

  def work() -> None:
    """Draws the cell."""
    if out.suffix == '.svg':
      files.replace(out, _marked_svg(cell, args.title))
    else:
      cells.png(cell, out, title=args.title, scale=args.scale)
    logging.info('wrote %s', args.out)

  return work


def _marked_svg(cell: AnyGenotype, title: str | None) -> bytes:
  """Returns the drawing, with the mark by which a later start knows it."""
  text = f'{cells.svg(cell, title=title)}<!-- {outputs.MARK} -->\n'
  return outputs.marked(text.encode())


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('genotype',))


if __name__ == '__main__':
  main()
