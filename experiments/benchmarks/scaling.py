"""Measures the growth of a search step: `python -m experiments.benchmarks.scaling`.

Along each axis one size grows and all others stay. Each point is a fresh process of our benchmark.
Beside it stands the growth of the arithmetic: the multiply-adds of one forward pass over a batch.
`sizes.count_macs` counts them as if every operation ran on every edge by itself, which is the
definition of the network in DARTS. A step does a fixed multiple of them. The program writes
scaling.json and scaling.svg.

Further devices are simulated on a CPU, where they share the cores. Then the arithmetic stays, and
the cost of its distribution grows.
"""

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.benchmarks import processes
from stretchnas_jax.cells import space
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.networks import sizes
from stretchnas_jax.views import charts

_FIELDS = {
  'nodes': 'space.num_intermediate', 'layers': 'model.num_layers', 'channels': 'model.channels',
  'batch': 'search.batch_size', 'side': 'data.image_size',
}  # fmt: skip
_WORDS = (
  '--config=configs/digits.py', '--config.data.split=two_way', '--config.rule.kind=first_order',
  '--noevaluation',
)  # fmt: skip
# The sizes that stay while another one grows.
_SMALL = {'nodes': 3, 'layers': 3, 'channels': 8, 'batch': 16, 'side': 16, 'devices': 1}
_PAPER = {'nodes': 4, 'layers': 8, 'channels': 16, 'batch': 16, 'side': 32, 'devices': 1}
_AXES = {
  'nodes': (3, 4, 5, 6, 7),
  'layers': (8, 12, 16, 20),
  'channels': (8, 16, 24, 32),
  'batch': (8, 16, 32, 64),
  'devices': (1, 2),
}

_Point = dict[str, Any]


def every_edge(search_space: space.SearchSpace) -> Genotype:
  """Returns the genotype with all operations on all edges: the supernet as a fixed network."""
  nodes = range(2, search_space.graph.num_intermediate + 2)
  names = [name for name in search_space.primitives if name != 'none']
  edges = [(name, source, to) for source, to in search_space.graph.edges for name in names]
  return Genotype(edges, list(nodes), edges, list(nodes))


def macs(nodes: int, layers: int, channels: int, batch: int, side: int, devices: int = 1) -> int:
  """Counts the multiply-adds of one forward pass over a batch of grey images.

  Args:
    nodes: intermediate nodes of a cell.
    layers: cells of the network.
    channels: C of the first cell.
    batch: images, over all devices.
    side: pixels of a side of an image.
    devices: changes nothing.
  """
  return batch * _macs_of_image(nodes, layers, channels, side)


@functools.cache
def _macs_of_image(nodes: int, layers: int, channels: int, side: int) -> int:
  """Counts the multiply-adds of one forward pass over one grey image."""
  cells = every_edge(space.darts_space(nodes))
  shape = {'channels': channels, 'num_layers': layers, 'num_classes': 10}
  return sizes.count_macs(cells, **shape, image_shape=(side, side, 1))


def measure(point: Mapping[str, int], steps: int) -> _Point:
  """Measures one point.

  Args:
    point: its sizes.
    steps: the number of timed steps.

  Returns:
    Its sizes, its arithmetic and the figures of the benchmark.

  Raises:
    RuntimeError: the benchmark failed, or it ran on another number of devices.
  """
  words = [f'--config.{_FIELDS[name]}={value}' for name, value in point.items() if name in _FIELDS]
  devices = point['devices']
  environment = {
    'JAX_NUM_CPU_DEVICES': str(devices),  # simulated devices
    'CUDA_VISIBLE_DEVICES': ','.join(str(i) for i in range(devices)),  # real devices
  }
  found = processes.benchmark([*_WORDS, *words, f'--steps={steps}'], environment=environment)
  if found['devices'] != devices:
    raise RuntimeError(f'{found["devices"]} devices took part, not {devices}')
  return {**point, 'macs': macs(**point), **found}


def _measure_axis(
  axis: str,
  values: Iterable[int],
  base: Mapping[str, int],
  steps: int,
  known: dict[tuple[tuple[str, int], ...], _Point],
) -> list[_Point]:
  """Measures all points along an axis.

  Args:
    axis: the size that grows.
    values: of that size.
    base: all sizes.
    steps: the number of timed steps.
    known: the points that have been measured; axes share some. New points are added.
  """
  found = []
  for value in values:
    sizes_here = {**base, axis: value}
    key = tuple(sizes_here.items())
    if key not in known:
      known[key] = measure(sizes_here, steps)
    point = known[key]
    found.append(point)
    step, compilation = point['median_step_seconds'], point['compile_seconds']
    print(f'{axis} {value}: {step:.4g} s a step, compiled in {compilation:.0f} s', file=sys.stderr)
  return found


def _growth_of(axis: str, points: Sequence[_Point]) -> tuple[list[int], dict[str, list[float]]]:
  """Returns the values of an axis, and the growth of each figure relative to the first point.

  Args:
    axis: the size that grows.
    points: the measured points along it.
  """
  waiting = [point['trace_seconds'] + point['compile_seconds'] for point in points]
  figures = {
    'arithmetic': [point['macs'] for point in points],
    'step': [point['median_step_seconds'] for point in points],
    'trace + compile': waiting,
  }
  relative = {name: [value / line[0] for value in line] for name, line in figures.items()}
  return [point[axis] for point in points], relative


def write(folder: pathlib.Path, results: Mapping[str, Any]) -> None:
  """Writes the figures and the chart.

  Args:
    folder: it is made if it is not there.
    results: the facts of the machine, and the points by axis.
  """
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'scaling.json').write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  panels = {axis: _growth_of(axis, points) for axis, points in results['axes'].items()}
  chart = charts.svg_of(charts.growth(_title(results), panels))
  (folder / 'scaling.svg').write_text(chart, 'utf-8')


def _title(results: Mapping[str, Any]) -> str:
  """Returns the lines above the chart: what was timed, on which data, and how often."""
  base = results['base']
  sizes_here = ', '.join(f'{name} {value}' for name, value in base.items() if name != 'side')
  timed = {len(point['step_seconds']) for points in results['axes'].values() for point in points}
  return (
    f'Growth of a search step on digits of {base["side"]}x{base["side"]} pixels; one process a '
    f'point, median of n = {", ".join(map(str, sorted(timed)))} times\nSizes that do not '
    f'grow: {sizes_here}'
  )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads and checks the command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--axes', default=','.join(_AXES), help='which, by commas (default: all)')
  parser.add_argument('--size', choices=('small', 'paper'), default='small')
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  for axis, values in _AXES.items():
    text = ','.join(map(str, values))
    parser.add_argument(f'--{axis}', default=text, help=f'its values (default: {text})')
  args = parser.parse_args(argv)
  args.axes = args.axes.split(',')
  unknown = [axis for axis in args.axes if axis not in _AXES]
  if unknown:
    parser.error(f'--axes has {unknown[0]!r}; there are {", ".join(_AXES)}')
  if args.steps < 1:
    parser.error('--steps must be at least 1')
  return args


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = _parse(argv)
  processes.require('matplotlib')
  base = _PAPER if args.size == 'paper' else _SMALL
  known: dict[tuple[tuple[str, int], ...], _Point] = {}
  results = {**processes.facts(), 'base': base, 'axes': {}}
  for axis in args.axes:
    values = [int(value) for value in getattr(args, axis).split(',')]
    results['axes'][axis] = _measure_axis(axis, values, base, args.steps, known)
    write(args.out, results)


if __name__ == '__main__':
  main()
