"""Says what a cell costs and what is in it: `python -m stretchnas_jax.describe DARTS_V2`."""

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells import zoo
from stretchnas_jax.cli import app
from stretchnas_jax.networks import sizes
from stretchnas_jax.runs import find_cell

OPTIONS = (
  app.Option('channels', 36, 'C of the first cells'),
  app.Option('layers', 20, 'number of cells'),
  app.Option('classes', 10, 'number of classes'),
  app.Option('stem', 'cifar', 'cifar (32x32 images) or imagenet (224x224)'),
  app.Option('target-params', None, 'choose C for this number of parameters, as 3.5e6'),
)

DATASETS = {'cifar10': 'CIFAR-10', 'imagenet': 'ImageNet'}

# Published figures in the order of their columns: field of the zoo, how it is said.
FIGURES = (
  ('channels', 'C {}'),
  ('layers', '{} layers'),
  ('params_millions', '{}M parameters'),
  ('flops_millions', '{}M FLOPs'),
  ('test_error_percent', 'test error {} %'),
  ('top1_error_percent', 'top-1 error {} %'),
  ('top5_error_percent', 'top-5 error {} %'),
)


def size_lines(cell, channels, layers, classes, stem):
  """What the network of these cells costs, for a person."""
  network = {'channels': channels, 'num_layers': layers, 'num_classes': classes, 'stem': stem}
  params = f'{sizes.count_params(cell, **network):,}'
  if layers > 1:  # one cell leaves the auxiliary head too many pixels
    params += f', {sizes.count_params(cell, **network, auxiliary=True):,} with the auxiliary head'
  height, width, _ = sizes.IMAGE_SHAPES[stem]
  return [
    f'network    C {channels}, {layers} layers, {classes} classes, {stem} stem, '
    f'images of {height}x{width}',
    f'params     {params}',
    f'MACs       {sizes.count_macs(cell, **network):,} in convolutions and classifier',
    f'FLOPs      {sizes.count_flops_ptflops(cell, **network):,} as papers on cells count: MACs,',
    '           2 x batch norm outputs, ReLU outputs, pool inputs, biases',
  ]


def cell_lines(title, edges, concat):
  """One cell, a line for each node."""
  depth, width = genotype_lib.depth(edges), genotype_lib.width(edges, concat)
  yield f'{title:10} {len(edges)} edges, depth {depth}, width {width:.3g}'
  for node in dict.fromkeys(destination for _, _, destination in edges):
    terms = [f'{name}({source})' for name, source, to in edges if to == node]
    yield f'           {node} = {" + ".join(terms)}'
  yield f'           output = {", ".join(map(str, concat))}'


def published_lines(published):
  """The figures that were published for a cell of the zoo, and where."""
  for key, name in DATASETS.items():
    if figures := published.get(key):
      said = [text.format(figures[field]) for field, text in FIGURES if field in figures]
      yield f'published  {name}: {", ".join(said)}'
      yield f'           in {figures["source"]}'
  yield f'cells of   {published["source"]}'
  if note := published.get('note'):
    yield f'note       {note}'


def describe(cell, *, channels, layers, classes, stem, published=None):
  """All that can be said about a genotype, as text."""
  blocks = [
    size_lines(cell, channels, layers, classes, stem),
    cell_lines('normal', cell.normal, cell.normal_concat),
    cell_lines('reduction', cell.reduce, cell.reduce_concat),
    published_lines(published) if published else (),
  ]
  return '\n\n'.join(text for block in blocks if (text := '\n'.join(block)))


def prepare(args):
  """Counts everything; what is left is to print it."""
  cell, channels = find_cell.genotype_from(args.genotype), args.channels
  if (target := getattr(args, 'target-params')) is not None:
    channels = sizes.channels_for(
      cell,
      find_cell.target_of(target),
      num_layers=args.layers,
      num_classes=args.classes,
      stem=args.stem,
    )
  text = describe(
    cell,
    channels=channels,
    layers=args.layers,
    classes=args.classes,
    stem=args.stem,
    published=zoo.PUBLISHED.get(args.genotype),
  )
  return lambda: print(text)


def main():
  app.run(prepare, config=False, options=OPTIONS, positional=('genotype',))


if __name__ == '__main__':
  main()
