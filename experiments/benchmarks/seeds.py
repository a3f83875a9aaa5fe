"""Times several seeds in one step of one device: `python -m experiments.benchmarks.seeds`.

The step of a search is mapped over seeds (`jax.vmap`), and compared with as many steps one after
the other. In each round all take turns. Counts are of the compiled programs, so that other work on
the machine changes only the seconds. The program writes seeds.json and seeds.md. It goes on from a
seeds.json of the same commit.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from experiments.benchmarks import processes, tables
from stretchnas_jax import config as config_lib
from stretchnas_jax.config import ConfigDict, files
from stretchnas_jax.machine import hlo_counts, parallel
from stretchnas_jax.runs import seeds as seeds_lib
from stretchnas_jax.runs import steps
from stretchnas_jax.runs import task as task_lib
from stretchnas_jax.runs.search_task import SEARCH

_TINY = {
  'data.name': 'digits', 'data.image_size': 8, 'data.crop_padding': 1,
  'space.num_intermediate': 2, 'model.channels': 2, 'model.num_layers': 1,
  'rule.kind': 'mixed', 'search.batch_size': 8,
}  # fmt: skip
FORMS = ('planes', 'merged')
SIZES = {
  'tiny': 'C 2, 1 cell, S 2, 8x8, batch 8',
  'digits': 'C 8, 3 cells, S 2, 8x8, batch 64',
}
_HEAD = (
  'search', 'form', 'seeds', 'one after the other, ms', 'in one step, ms', 'as fast', 'kernels',
  'compilation, s', 'same bits',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Mapped(parallel.Devices):
  """One device, on which a step serves several seeds at once: a new first axis of all but data."""

  def compile(
    self,
    step: Callable[..., PyTree],
    in_axes: parallel.Axes = (None, 0, None),
    donate: Sequence[int] = (0,),
  ) -> parallel.Program:
    """Returns the mapped program; takes the arguments of `Devices.compile`."""
    del in_axes
    bound = functools.partial(step, axis_name=None)
    mapped = jax.vmap(bound, in_axes=(0, None, 0, 0))
    return parallel.Program(jax.jit(mapped, donate_argnums=donate))


class Step(NamedTuple):
  """A compiled step with its arguments.

  Attributes:
    program: the compiled step.
    args: its arguments; the first is the position, which it returns.
    compile_seconds: of tracing and compilation.
  """

  program: Callable[..., PyTree]
  args: tuple[PyTree, ...]
  compile_seconds: float


def config_of(size: str, form: str) -> ConfigDict:
  """Returns the config of a search.

  Args:
    size: a key of `SIZES`.
    form: of the supernet.
  """
  if size == 'digits':
    config = files.load_module(files.named()['digits']).get_config()
    config.space.num_intermediate = 2  # a step of several seeds compiles for minutes
  else:
    config = config_lib.search_config()
    config.update_from_flattened_dict(_TINY)
  config.model.form, config.parallel.backend = form, 'single'
  return config


def alone(config: ConfigDict, seed: int) -> Step:
  """Returns the step of one seed.

  Args:
    config: of the search.
    seed: of the run.
  """
  plan = SEARCH.plan(seeds_lib.with_seed(config, seed))
  return _compiled(SEARCH.compile(plan).step, _arguments(plan))


def together(config: ConfigDict, count: int) -> Step:
  """Returns the step of the seeds from 0 on, mapped over them.

  Args:
    config: of the search.
    count: how many seeds.
  """
  each = [_arguments(SEARCH.plan(seeds_lib.with_seed(config, seed))) for seed in range(count)]
  stack = lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves])
  positions, data, batches, keys = zip(*each)
  args = [jax.tree.map(stack, *trees) for trees in (positions, batches, keys)]
  plan = SEARCH.plan(config, devices=_Mapped('single'))
  return _compiled(SEARCH.compile(plan).step, (args[0], data[0], args[1], args[2]))


def _arguments(plan: task_lib.Plan) -> tuple[PyTree, ...]:
  """Returns the arguments of the first step of a run."""
  position = SEARCH.first(plan)(task_lib.keys_of(plan)[0])
  feed = plan.feeds.train
  batch = steps.one_of(feed.chunk(0, 0, 1, 1), 0)
  return position, jax.tree.map(jnp.asarray, feed.data), batch, task_lib.keys_of(plan)[1]


def _compiled(program: parallel.Program, args: tuple[PyTree, ...]) -> Step:
  begin = time.perf_counter()
  compiled = program.lower(*args).compile()
  return Step(compiled, args, time.perf_counter() - begin)


def _seconds(step: Step, count: int) -> float:
  """Returns the seconds of a step, the mean of some."""
  position, *rest = jax.tree.map(lambda leaf: leaf, step.args)
  position = jax.tree.map(jnp.copy, position)  # a step reuses the memory of its state
  begin = time.perf_counter()
  for _ in range(count):
    position = step.program(position, *rest)
  jax.block_until_ready(position)
  return (time.perf_counter() - begin) / count


def _after_one(step: Step) -> PyTree:
  position, *rest = step.args
  found = step.program(jax.tree.map(jnp.copy, position), *rest)
  return jax.tree.map(np.asarray, found)


def measure(config: ConfigDict, counts: Sequence[int], rounds: int, number: int) -> dict[str, Any]:
  """Returns the figures of one step, and of steps of several seeds.

  Args:
    config: of the search.
    counts: how many seeds, each a row.
    rounds: in each of them all take turns.
    number: of steps that are timed together.
  """
  one = alone(config, 0)
  mapped = {count: together(config, count) for count in counts}
  first = jax.tree.leaves(_after_one(one))
  rows = {}
  for count, step in mapped.items():
    found = [leaf[0] for leaf in jax.tree.leaves(_after_one(step))]
    rows[count] = _facts(step) | {
      'same_bits': all(map(np.array_equal, first, found)), 'alone': [], 'together': [],
    }  # fmt: skip
  for _ in range(rounds):
    for count, step in mapped.items():
      rows[count]['alone'].append(count * _seconds(one, number))
      rows[count]['together'].append(_seconds(step, number))
  return {'one': _facts(one), 'several': rows}


def _facts(step: Step) -> dict[str, Any]:
  # pyrefly: ignore[missing-attribute]
  text = step.program.as_text()
  return {'kernels': hlo_counts.count(text).kernels, 'compile_seconds': step.compile_seconds}


def markdown(results: Mapping[str, Any]) -> str:
  """Returns the page of the file that this program writes.

  Args:
    results: the facts of the machine, and `rows`: figures by size and form.
  """
  lines = [tables.table_line(_HEAD), tables.table_line(['---'] * len(_HEAD))]
  for row in results['rows']:
    if 'failed' in row:
      rest = [row['failed'], *'-' * (len(_HEAD) - 3)]
      lines.append(tables.table_line([f'{row["size"]}: {SIZES[row["size"]]}', row['form'], *rest]))
      continue
    for count, found in row['several'].items():
      lines.append(tables.table_line(_texts(row, count, found)))
  notes = (
    'Medians. `as fast` is the time of the steps one after the other through the time of the one '
    'step, with the range of its rounds: above 1 the one step pays. Kernels are those of the '
    "one step, and of a single seed's in brackets. Same bits: seed 0 after a step."
  )
  return '\n'.join([tables.made_with(results), '', notes, '', *lines, ''])


def _texts(row: Mapping[str, Any], count: int | str, found: Mapping[str, Any]) -> list[str]:
  ratios = [a / b for a, b in zip(found['alone'], found['together'])]
  middle = statistics.median
  return [
    f'{row["size"]}: {SIZES[row["size"]]}',
    row['form'],
    str(count),
    f'{1e3 * middle(found["alone"]):.3g}',
    f'{1e3 * middle(found["together"]):.3g}',
    f'{middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})',
    f'{found["kernels"]:,.0f} ({row["one"]["kernels"]:,.0f})',
    f'{found["compile_seconds"]:.0f} ({row["one"]["compile_seconds"]:.0f})',
    'yes' if found['same_bits'] else 'no',
  ]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads and checks the command line; None stands for that of the process."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--sizes', default=','.join(SIZES), help='by commas (default: all)')
  parser.add_argument('--forms', default=','.join(FORMS), help='by commas (default: all)')
  parser.add_argument('--seeds', default='2,4', help='how many at once (default: %(default)s)')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--steps', type=int, default=10, help='timed together (default: 10)')
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  args = parser.parse_args(argv)
  args.sizes, args.forms = args.sizes.split(','), args.forms.split(',')
  args.seeds = [int(word) for word in args.seeds.split(',')]
  unknown = [name for name in args.sizes if name not in SIZES]
  if unknown:
    parser.error(f'--sizes has {unknown[0]!r}; there are {", ".join(SIZES)}')
  return args


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = parse(argv)
  path, results = args.out / 'seeds.json', processes.facts() | {'rows': []}
  if path.exists():
    before = json.loads(path.read_text('utf-8'))
    results = before if before['git_commit'] == results['git_commit'] else results
  args.out.mkdir(parents=True, exist_ok=True)
  done = {(row['size'], row['form']) for row in results['rows']}
  for size in args.sizes:
    for form in args.forms:
      if (size, form) in done:
        continue
      row = {'size': size, 'form': form}
      try:
        row |= measure(config_of(size, form), args.seeds, args.rounds, args.steps)
      except NotImplementedError as error:  # an operation that cannot be mapped
        row['failed'] = str(error)
      results['rows'].append(row)
      path.write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
      (args.out / 'seeds.md').write_text(markdown(results), 'utf-8')
  print(markdown(results))


if __name__ == '__main__':
  main()
