"""How the cost of a search step grows: `python -m experiments.benchmarks.scaling`.

Along each axis one size grows and all others stay; each point is a fresh process of our benchmark.
Beside it stands the growth of the arithmetic: the multiply-adds of one forward pass over a batch,
counted by `sizes.count_macs` as if every operation ran on every edge by itself, which is how DARTS
defines the network. A step does a fixed multiple of that. Writes scaling.json and scaling.svg.

Devices beyond the first are simulated on a CPU, where they share the cores: the arithmetic stays,
and what grows is the cost of spreading it.
"""

import argparse
import json
import pathlib
import sys

from experiments.benchmarks import curves, processes
from stretchnas_jax.cells import genotype, space
from stretchnas_jax.networks import sizes

FIELDS = {
  'nodes': 'space.num_intermediate', 'layers': 'model.num_layers', 'channels': 'model.channels',
  'batch': 'search.batch_size', 'side': 'data.image_size',
}  # fmt: skip
WORDS = (
  '--config=configs/digits.py', '--config.data.split=two_way', '--config.rule.kind=first_order',
  '--noevaluation',
)  # fmt: skip
# What stays while something else grows; `small` ends within a quarter of an hour on two cores.
SMALL = {'nodes': 3, 'layers': 3, 'channels': 8, 'batch': 16, 'side': 16, 'devices': 1}
PAPER = {'nodes': 4, 'layers': 8, 'channels': 16, 'batch': 16, 'side': 32, 'devices': 1}
AXES = {
  'nodes': (3, 4, 5, 6, 7),
  'layers': (8, 12, 16, 20),
  'channels': (8, 16, 24, 32),
  'batch': (8, 16, 32, 64),
  'devices': (1, 2),
}


def every_edge(search_space):
  """The genotype with all operations on all edges: the supernet as a network of fixed cells."""
  nodes = range(2, search_space.graph.num_intermediate + 2)
  names = [name for name in search_space.primitives if name != 'none']
  edges = [(name, source, to) for source, to in search_space.graph.edges for name in names]
  return genotype.Genotype(edges, list(nodes), edges, list(nodes))


def macs(nodes, layers, channels, batch, side, devices=1):
  """Multiply-adds of one forward pass over a batch of grey images, over all devices."""
  cells = every_edge(space.darts_space(nodes))
  shape = {'channels': channels, 'num_layers': layers, 'num_classes': 10}
  return batch * sizes.count_macs(cells, **shape, image_shape=(side, side, 1))


def measure(point, steps):
  """One point: its sizes, its arithmetic and what the benchmark says of it."""
  words = [f'--config.{FIELDS[name]}={value}' for name, value in point.items() if name in FIELDS]
  chosen = ','.join(map(str, range(point['devices'])))
  # The one is for simulated devices, the other for real ones.
  environment = {'JAX_NUM_CPU_DEVICES': str(point['devices']), 'CUDA_VISIBLE_DEVICES': chosen}
  found = processes.benchmark([*WORDS, *words, f'--steps={steps}'], environment=environment)
  if found['devices'] != point['devices']:
    raise RuntimeError(f'{found["devices"]} devices took part, not {point["devices"]}')
  return {**point, 'macs': macs(**point), **found}


def measure_axis(axis, values, base, steps, known):
  """All points along an axis; `known` keeps those that axes share."""
  found = []
  for value in values:
    point = base | {axis: value}
    key = tuple(point.items())
    if key not in known:
      known[key] = measure(point, steps)
    found.append(known[key])
    step, waiting = (found[-1][f] for f in ('median_step_seconds', 'compile_seconds'))
    print(f'{axis} {value}: {step:.4g} s a step, compiled in {waiting:.0f} s', file=sys.stderr)
  return found


def lines_of(axis, points):
  """(values, `{name: growth relative to the first point}`) for a plot."""
  relative = lambda values: [value / values[0] for value in values]
  waiting = [point['trace_seconds'] + point['compile_seconds'] for point in points]
  return [point[axis] for point in points], {
    'arithmetic': relative([point['macs'] for point in points]),
    'step': relative([point['median_step_seconds'] for point in points]),
    'trace + compile': relative(waiting),
  }


def write(folder, results):
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'scaling.json').write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  panels = {axis: lines_of(axis, points) for axis, points in results['axes'].items()}
  (folder / 'scaling.svg').write_text(curves.svg(panels), 'utf-8')


def parse(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--axes', default=','.join(AXES), help='which, by commas (default: all)')
  parser.add_argument('--size', choices=('small', 'paper'), default='small')
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  for axis, values in AXES.items():
    text = ','.join(map(str, values))
    parser.add_argument(f'--{axis}', default=text, help=f'its values (default: {text})')
  args = parser.parse_args(argv)
  args.axes = args.axes.split(',')
  if unknown := [axis for axis in args.axes if axis not in AXES]:
    parser.error(f'--axes has {unknown[0]!r}; there are {", ".join(AXES)}')
  if args.steps < 1:
    parser.error('--steps must be at least 1')
  return args


def main(argv=None):
  args = parse(argv)
  base, known = (PAPER if args.size == 'paper' else SMALL), {}
  results = processes.facts() | {'base': base, 'axes': {}}
  for axis in args.axes:
    values = [int(value) for value in getattr(args, axis).split(',')]
    results['axes'][axis] = measure_axis(axis, values, base, args.steps, known)
    write(args.out, results)


if __name__ == '__main__':
  main()
