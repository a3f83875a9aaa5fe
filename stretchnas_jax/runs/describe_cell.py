"""A cell in words: the cost of its network, its edges, and its published figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.networks import sizes
from stretchnas_jax.networks.own_operations import OwnOperations

_DATASETS = {'cifar10': 'CIFAR-10', 'imagenet': 'ImageNet'}

# Published figures in the order of their columns: field of the zoo, text.
_FIGURES = {
  'channels': 'C {}',
  'layers': '{} layers',
  'params_millions': '{}M parameters',
  'flops_millions': '{}M FLOPs',
  'test_error_percent': 'test error {} %',
  'top1_error_percent': 'top-1 error {} %',
  'top5_error_percent': 'top-5 error {} %',
}


def describe(
  genotype: genotype_lib.AnyGenotype,
  *,
  channels: int,
  layers: int,
  classes: int,
  stem: str,
  image_shape: tuple[int, int, int] | None = None,
  published: Mapping[str, Any] | None = None,
  operations: OwnOperations | None = None,
  table: str | None = None,
) -> str:
  """Returns a text with the sizes of a network of cells, and with the cells.

  Args:
    genotype: the cells.
    channels: C of the first cells.
    layers: number of cells, in NAS-Bench-201 of a stage.
    classes: number of classes.
    stem: 'cifar' or 'imagenet'.
    image_shape: `(H, W, C)`; by default 32x32x3 or 224x224x3, after the stem.
    published: the published figures of the cells, an entry of `zoo.PUBLISHED`, or None.
    operations: your own operations among those of the cells.
    table: of the accuracies of NAS-Bench-201, see `nas_bench_201.load`.

  Raises:
    ValueError: the table cannot be read, or lacks the cell.
  """
  blocks = [_size_lines(genotype, channels, layers, classes, stem, image_shape, operations)]
  if isinstance(genotype, nas_bench_201.Cell):
    blocks.append(_table_lines(genotype, table))
  else:
    blocks.append(_cell_lines('normal', genotype.normal, genotype.normal_concat))
    blocks.append(_cell_lines('reduction', genotype.reduce, genotype.reduce_concat))
  if published:
    blocks.append(_published_lines(published))
  return '\n\n'.join('\n'.join(lines) for lines in blocks)


def _table_lines(cell: nas_bench_201.Cell, path: str | None) -> list[str]:
  """Returns the text of a cell of NAS-Bench-201, and its accuracy in a table."""
  lines = [f'cell {nas_bench_201.to_text(cell)}']
  try:
    table = nas_bench_201.load(path)
  except ValueError as error:
    if path:
      raise
    return [*lines, str(error)]  # the extra is not there
  rank, regret = table.rank(cell.code), table.regret(cell.code)
  return [
    *lines,
    f'accuracy {table.accuracy(cell.code):.2f} %, rank {rank:,} of {table.num_cells:,}, '
    f'{regret:.2f} points below the best cell',
    f'({table.source})',
  ]


def _size_lines(
  genotype: genotype_lib.AnyGenotype,
  channels: int,
  layers: int,
  classes: int,
  stem: str,
  image_shape: tuple[int, int, int] | None,
  operations: OwnOperations | None,
) -> list[str]:
  """Returns the number of parameters, multiply-adds and FLOPs of a network."""
  network: dict[str, Any] = {
    'channels': channels,
    'num_layers': layers,
    'num_classes': classes,
    'stem': stem,
    'image_shape': image_shape,
    'operations': operations,
  }
  params = f'{sizes.count_params(genotype, **network):,}'
  if layers > 1 and isinstance(
    genotype, genotype_lib.Genotype
  ):  # one cell leaves too few pixels for the auxiliary head
    try:
      with_head = sizes.count_params(genotype, **network, auxiliary=True)
      params += f', {with_head:,} with the auxiliary head'
    except ValueError:  # the head takes one size of images only
      params += '; images of this size do not fit the auxiliary head'
  cells = 'layers' if isinstance(genotype, genotype_lib.Genotype) else 'cells a stage'
  height, width, _ = image_shape or sizes.IMAGE_SHAPES[stem]
  macs, flops = (
    sizes.count_macs(genotype, **network),
    sizes.count_flops_ptflops(genotype, **network),
  )
  return [
    f'network    C {channels}, {layers} {cells}, {classes} classes, {stem} stem, '
    f'images of {height}x{width}',
    f'params     {params}',
    f'MACs       {macs:,} in convolutions and classifier',
    f'FLOPs      {flops:,} as papers on cells count: MACs,',
    '           2 x batch norm outputs, ReLU outputs, pool inputs, biases',
  ]


def _cell_lines(
  title: str, edges: Sequence[tuple[str, int, int]], concat: Iterable[int]
) -> list[str]:
  """Returns one cell, a line for each node."""
  depth, width = genotype_lib.depth(edges), genotype_lib.width(edges, concat)
  lines = [f'{title:10} {len(edges)} edges, depth {depth}, width {width:.3g}']
  for node in dict.fromkeys(target for _, _, target in edges):
    terms = [f'{name}({source})' for name, source, target in edges if target == node]
    lines.append(f'           {node} = {" + ".join(terms)}')
  return [*lines, f'           output = {", ".join(map(str, concat))}']


def _published_lines(published: Mapping[str, Any]) -> list[str]:
  """Returns the figures that were published for a cell of the zoo, with their sources."""
  lines = []
  for key, name in _DATASETS.items():
    if figures := published.get(key):
      texts = [text.format(figures[field]) for field, text in _FIGURES.items() if field in figures]
      lines.append(f'published  {name}: {", ".join(texts)}')
      lines.append(f'           in {figures["source"]}')
  lines.append(f'cells of   {published["source"]}')
  if note := published.get('note'):
    lines.append(f'note       {note}')
  return lines
