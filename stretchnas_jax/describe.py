"""Shows the cost and the content of a cell: `python -m stretchnas_jax.describe DARTS_V2`.

`describe zoo` lists the published cells.
"""

import types
from collections.abc import Callable

from stretchnas_jax.cells import nas_bench_201, zoo
from stretchnas_jax.cli import app, slips
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.machine import output
from stretchnas_jax.networks import sizes
from stretchnas_jax.runs import describe_cell, find_cell

OPTIONS = (
  app.Option('channels', None, 'C of the first cells; 36, or 16 in NAS-Bench-201'),
  app.Option('layers', None, 'number of cells; 20, or 5 a stage in NAS-Bench-201'),
  app.Option('classes', 10, 'number of classes'),
  app.Option('stem', 'cifar', 'cifar (32x32 images) or imagenet (224x224)'),
  app.Option('image-size', None, 'pixels a side, or HEIGHT,WIDTH; the stem has a usual one'),
  app.Option('target-params', None, 'choose C for this number of parameters, for example 3.5e6'),
  app.Option(
    'table', None, 'accuracies of NAS-Bench-201, FILE.csv, in place of the extra nasbench'
  ),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Counts everything; returns the function that prints the text."""
  if args.genotype == 'zoo':
    rows = '\n'.join(f'{name:16}  {about["source"]}' for name, about in zoo.PUBLISHED.items())
    return lambda: output.result(rows)
  cell = find_cell.genotype_from(args.genotype)
  in_table = isinstance(cell, nas_bench_201.Cell)
  channels = _number('channels', args.channels, 16 if in_table else 36)
  layers = _number('layers', args.layers, 5 if in_table else 20)
  if args.table and not in_table:
    raise ValueError(
      f'--table={args.table}: only cells of NAS-Bench-201 stand in one; leave it out'
    )
  operations = find_cell.own_operations(args.genotype, args.trust)
  target, shape = getattr(args, 'target-params'), image_shape(getattr(args, 'image-size'))
  if target is not None:
    channels = sizes.channels_for(
      cell,
      find_cell.target_of(target),
      num_layers=layers,
      num_classes=args.classes,
      stem=args.stem,
      image_shape=shape,
      operations=operations,
    )
  text = describe_cell.describe(
    cell,
    channels=channels,
    layers=layers,
    classes=args.classes,
    stem=args.stem,
    image_shape=shape,
    published=zoo.PUBLISHED.get(args.genotype),
    operations=operations,
    table=args.table,
  )
  return lambda: output.result(text)


def _number(name: str, text: str | None, usual: int) -> int:
  """Returns the number of an option; `usual` where it is not given."""
  if text is None:
    return usual
  slips.check_value(name, text, usual)
  return int(text)


def image_shape(text: str | None) -> tuple[int, int, int] | None:
  """Returns `(H, W, 3)` for `--image-size`; None where it is not given."""
  if text is None:
    return None
  sides = text.split(',')
  if len(sides) > 2 or not all(side.isdecimal() and int(side) >= 8 for side in sides):
    raise ValueError(f'--image-size={text[:200]}: it must be a whole number of at least 8, or two')
  return int(sides[0]), int(sides[-1]), 3


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('genotype',))


if __name__ == '__main__':
  main()
