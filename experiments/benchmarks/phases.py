"""Times the phases of P-DARTS at one depth: `python -m experiments.benchmarks.phases`.

The phases of `configs/p_darts_cifar10.py` have 8, 5 and 3 operations on each edge. Here all of them
have the same depth, so that only the number of operations differs. The search is a real one, on
digits that are scaled up. The first epoch of a phase is left out, as it compiles. Operations do not
cost the same, so the table has the multiply-adds that are left, too. A further search has
`skip_connect` alone. It shows how little a step takes without costly operations. The last column
leaves this time out. The program writes phases.json and phases.md.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks import processes, tables
from stretchnas_jax import CellGraph, SearchSpace, load_history, run_search
from stretchnas_jax import config as config_lib
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.networks import operation_costs
from stretchnas_jax.runs import json_files, trained

_HEAD = (
  'phase', 'operations on an edge', 'of the first', 'multiply-adds of the first', 'seconds a step',
  'of the first phase', 'beyond skip_connect alone',
)  # fmt: skip

_REST = 'skip_connect alone'


def config_of(args: argparse.Namespace) -> ConfigDict:
  """Returns P-DARTS' config, with one depth in all phases.

  Args:
    args: of `parse`.
  """
  config = config_lib.load('p_darts_cifar10')
  config.update_from_flattened_dict({
    'data.name': 'digits', 'data.image_size': args.image_size, 'data.fraction': args.fraction,
    'data.flip': False, 'model.channels': args.channels, 'model.num_layers': args.layers,
    'search.batch_size': args.batch, 'search.epochs': 3 * args.epochs, 'search.warmup_epochs': 0,
    'parallel.backend': 'single',
  })  # fmt: skip
  config.search.phases = tuple(
    dict(phase, **{'epochs': args.epochs, 'model.num_layers': args.layers})
    for phase in config.search.phases
  )
  return config


def measure(config: ConfigDict, folder: pathlib.Path) -> list[dict[str, Any]]:
  """Runs the search, and returns a row for each phase.

  Args:
    config: of `config_of`.
    folder: of the run, which must not exist.
  """
  run_search(config, folder)
  rows, first, kept = [], 0, 8
  for number, phase in enumerate(config.search.phases, 1):
    kept = phase.get('keep', kept)
    epochs = range(first + 1, first + phase['epochs'])  # The first epoch compiles.
    rows.append({'phase': number, 'operations': kept, **_figures(config, folder, epochs)})
    first += phase['epochs']
  return rows


def measure_rest(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
  """Runs a search whose only operation is `skip_connect`, and returns its row.

  Args:
    config: of `config_of`; the search has the epochs of one phase.
    folder: of the run, which must not exist.
  """
  epochs = config.search.phases[0]['epochs']
  config = config.copy_and_resolve_references()
  config.search.update({'phases': (), 'epochs': epochs})
  space = SearchSpace(CellGraph(config.space.num_intermediate), ('skip_connect',))
  run_search(config, folder, parts={'space': space})
  figures = _figures(config, folder, range(1, epochs), {'space': space})
  return {'phase': _REST, 'operations': 1, **figures}


def _figures(
  config: ConfigDict,
  folder: pathlib.Path,
  epochs: range,
  parts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Returns the multiply-adds and the seconds of a step in some epochs of a run."""
  lines, left = json_files.read_lines(folder / 'metrics.jsonl'), multiply_adds(folder, parts)
  seconds = [config.search.batch_size / lines[i]['images_per_second'] for i in epochs]
  return {'multiply_adds': left[epochs[0]], 'step_seconds': seconds}


def multiply_adds(folder: pathlib.Path, parts: Mapping[str, Any] | None = None) -> list[float]:
  """Returns the multiply-adds of the operations that are left in each epoch.

  They are those of an image in a pass forwards, on all edges of all cells, with what lies outside
  the edges.

  Args:
    folder: of the run.
    parts: the run's own objects.
  """
  saved, weights = trained.read_run(folder, parts=parts), load_history(folder).op_weights
  image_shape = tuple(saved.identity['image_shape'])
  found = operation_costs.operation_costs(saved.objects.net, image_shape)
  everything = np.ones(len(saved.objects.net.space.graph.edges))
  # Operations that fell have the weight 0.
  left = {cell: np.float64(weights[cell] != 0) for cell in weights}
  return [
    found.expected({cell: left[cell][i] for cell in left}, dict.fromkeys(left, everything))
    for i in range(len(left['normal']))
  ]


def markdown(results: Mapping[str, Any]) -> str:
  """Returns the page of the file that this program writes.

  Args:
    results: the facts of the machine, the sizes as `about`, and `rows`; the last one is that of
      `measure_rest`.
  """
  text = [tables.made_with(results), '', results['about'], '']
  text += [tables.table_line(_HEAD), tables.table_line(['---'] * len(_HEAD))]
  middle = [statistics.median(row['step_seconds']) for row in results['rows']]
  for row, seconds in zip(results['rows'], middle):
    first = results['rows'][0]
    share = row['operations'] / first['operations']
    work = row['multiply_adds'] / first['multiply_adds']
    beyond = (seconds - middle[-1]) / (middle[0] - middle[-1])
    text.append(
      tables.table_line([
        str(row['phase']), str(row['operations']), f'{share:.3f}', f'{work:.2f}',
        tables.seconds_text(tables.range_of(row['step_seconds'])), f'{seconds / middle[0]:.2f}',
        f'{beyond:.2f}',
      ])
    )  # fmt: skip
  return '\n'.join([*text, ''])


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads and checks the command line; None stands for that of the process."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--layers', type=int, default=5)
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--image-size', type=int, default=32)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--epochs', type=int, default=4, help='of each phase')
  parser.add_argument('--fraction', type=float, default=0.1, help='of the images')
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  args = parser.parse_args(argv)
  if args.epochs < 2:
    parser.error('--epochs must be at least 2: the first one of a phase is left out')
  return args


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = parse(argv)
  about = (
    f'C {args.channels}, {args.layers} cells in all phases, {args.image_size}x{args.image_size} '
    f'pixels, batch {args.batch}; medians of {args.epochs - 1} epochs, with their range.'
  )
  with tempfile.TemporaryDirectory() as folder:
    rows = measure(config_of(args), pathlib.Path(folder) / 'run')
    rows.append(measure_rest(config_of(args), pathlib.Path(folder) / 'rest'))
  results = processes.facts() | {'about': about, 'rows': rows}
  args.out.mkdir(parents=True, exist_ok=True)
  (args.out / 'phases.json').write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  (args.out / 'phases.md').write_text(markdown(results), 'utf-8')
  print(markdown(results))


if __name__ == '__main__':
  main()
