"""The measurements of `gpu`, unit by unit, each in a fresh process.

A stage is a generator of units: a name, and a function that returns the result as a dict.
"""

import argparse
import concurrent.futures
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from experiments.benchmarks import compare, gpu_tables, processes

_LIMIT = 300  # seconds for a measurement; a longer compilation is a result

# A GPU computes these by other programs than a CPU.
_TESTS = (
  'operations', 'edge_groups', 'supernet', 'fixed_cell', 'network', 'network_forms',
  'own_operations', 'cells', 'bilevel', 'passes_together', 'pixel_sums', 'unrolled',
  'relaxation', 'topology', 'training',
)  # fmt: skip
_NOT_HERE = 'not four_devices and not does_not_divide'  # these need several devices

SC = 'configs/milenas_sc_cifar10.py:8'
WO_SC = 'configs/darts_wo_sc_cifar10.py'
ROWS = {
  'search': compare.Row(
    'search, DARTS w/o SC: C 16, 8 layers, S 4, batch 64',
    (f'--config={WO_SC}', '--config.data.split=two_way'),
    ('search', '--ops=7', '--channels=16', '--layers=8', '--nodes=4', '--batch=64'),
  ),
  'stretchable': compare.Row(
    'search, MiLeNAS-SC: C 16, 8 layers, S 6, batch 64',
    (f'--config={SC}', '--config.data.split=two_way'),
    (
      'search', '--ops=7', '--channels=16', '--layers=8', '--nodes=6', '--batch=64', '--rule=mixed',
    ),
  ),
  'train': compare.Row(
    'training of DARTS_V2: C 36, 20 layers, auxiliary head, drop path, batch 96',
    ('--config=configs/train_cifar10.py', '--genotype=DARTS_V2'),
    (
      'train', '--genotype=DARTS_V2', '--channels=36', '--layers=20', '--batch=96', '--auxiliary',
      '--drop-path=0.2',
    ),
    ('--layout=nhwc',),
  ),
}  # fmt: skip


Unit = tuple[str, Callable[[], dict[str, Any]]]


class Side(NamedTuple):
  """One way to compute a row.

  Attributes:
    title: its name in the table.
    arithmetic: whose peak counts; see `gpu_tables.peak_of`.
    words: further words of its program.
    ours: False for PyTorch.
    tuned: True for PyTorch with the row's words for tuning.
    precision: JAX's precision of float32 products, or None for the default.
    rows: the rows that it computes.
  """

  title: str
  arithmetic: str
  words: tuple[str, ...] = ()
  ours: bool = True
  tuned: bool = False
  precision: str | None = None
  rows: tuple[str, ...] = tuple(ROWS)


_HALF = ('--config.model.dtype=bfloat16',)
SIDES = {
  'ours_float32': Side('ours, float32', 'float32', precision='highest'),
  'ours_tf32': Side('ours, TF32', 'tf32', precision='tensorfloat32'),
  'ours_bf16': Side('ours, bfloat16', 'bfloat16', _HALF),
  # Both of PyTorch's sides use TF32, which is the default of its convolutions.
  'plain': Side('PyTorch, plain, TF32', 'tf32', ours=False),
  'tuned': Side('PyTorch, tuned, TF32', 'tf32', ours=False, tuned=True),
  'tuned_bf16': Side(
    'PyTorch, tuned, bfloat16', 'bfloat16', ('--dtype=bfloat16',), ours=False, tuned=True
  ),
  'tuned_bf16_compiled': Side(
    'PyTorch, tuned, bfloat16, torch.compile', 'bfloat16', ('--dtype=bfloat16', '--compile'),
    ours=False, tuned=True,
  ),
  # A training has one pass, so there is nothing to put in another order.
  'ours_bf16_in_turn': Side(
    'ours, bfloat16, search.passes=in_turn', 'bfloat16',
    (*_HALF, '--config.search.passes=in_turn'), rows=('search', 'stretchable'),
  ),
  'ours_bf16_unrolled': Side(
    'ours, bfloat16, search.unroll', 'bfloat16', (*_HALF, '--config.search.unroll=True'),
    rows=('search', 'stretchable'),
  ),
}  # fmt: skip

# For a rehearsal. The last word of a kind counts.
TINY_STEP = ('--config.model.channels=4', '--config.model.num_layers=3')
TINY_SEARCH = ('--config.space.num_intermediate=2', '--config.search.batch_size=4')
_TINY_PEER = ('--channels=4', '--layers=3', '--batch=4', '--threads=1')


# ---- the words of a process ----------------------------------------------------------------------


def environment(args: argparse.Namespace) -> dict[str, str]:
  """Returns the variables for JAX, without a silent way back to the CPU."""
  if args.rehearse:
    return {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
  return {'JAX_PLATFORMS': 'cuda'}


def _our_words(name: str, args: argparse.Namespace) -> list[str]:
  """Returns a row's words for our benchmark."""
  words = [*ROWS[name].ours, '--noevaluation', f'--steps={args.steps}']
  if args.rehearse:
    words += TINY_STEP
    words += ('--config.train.batch_size=4',) if name == 'train' else TINY_SEARCH
  return words


def _peer_words(name: str, args: argparse.Namespace) -> list[str]:
  """Returns a row's words for PyTorch."""
  words = [*ROWS[name].peer, f'--device={"cpu" if args.rehearse else "cuda"}']
  if args.rehearse:
    words += _TINY_PEER
    words += () if name == 'train' else ('--nodes=2',)
  return words


# ---- tests ---------------------------------------------------------------------------------------


def test_units(args: argparse.Namespace) -> Iterator[Unit]:
  """Yields the test files."""
  for name in ('relaxation', 'topology') if args.rehearse else _TESTS:
    yield name, functools.partial(run_tests, name, args)


def run_tests(name: str, args: argparse.Namespace) -> dict[str, Any]:
  """Runs one test file on the device, in full precision: its tolerances are for float32.

  Args:
    name: of the file `tests/test_NAME.py`.
    args: the command line of `gpu`.

  Returns:
    The counts of tests, the exit code and the last lines.

  Raises:
    RuntimeError: no test ran.
  """
  command = [
    sys.executable, '-m', 'pytest', '-q', '--tb=short', '-W', 'default', '-p', 'no:cacheprovider',
    '-k', _NOT_HERE, f'tests/test_{name}.py',
  ]  # fmt: skip
  variables = environment(args) | {
    'JAX_DEFAULT_MATMUL_PRECISION': 'highest',
    # With Triton XLA ends its process at some networks of the form planes, which is for CPUs.
    'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} --xla_gpu_enable_triton_gemm=false'.strip(),
  }
  done = subprocess.run(
    command, cwd=processes.ROOT, capture_output=True, text=True, timeout=2 * _LIMIT,
    env=os.environ | variables,
  )  # fmt: skip
  lines = done.stdout.splitlines()
  found = gpu_tables.test_counts(lines[-1] if lines else '')
  if not any(found[kind] for kind in ('passed', 'failed', 'errors')):
    raise RuntimeError(f'no test ran: {(done.stderr.strip() or done.stdout)[-1000:]}')
  return {**found, 'code': done.returncode, 'tail': (lines or done.stderr.splitlines())[-60:]}


# ---- compilation ---------------------------------------------------------------------------------


def compile_units(args: argparse.Namespace) -> Iterator[Unit]:
  """Yields the first compilation of all our sides, as one unit."""
  yield 'compile', functools.partial(_compile_all, args)


def _compile_all(args: argparse.Namespace) -> dict[str, Any]:
  """Compiles our sides, one for two CPUs at once, because one compiler leaves CPUs idle.

  The compilers slow each other down, so that each takes longer than alone. Their times of a step
  are not kept.
  """
  wanted = [(name, key) for key, side in SIDES.items() if side.ours for name in side.rows]
  if args.only:
    wanted = [unit for unit in wanted if any(text in '/'.join(unit) for text in args.only)]
  with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
    found = pool.map(functools.partial(_compile_one, args), wanted)
    return {'compiled': dict(zip(map('/'.join, wanted), found))}


def _compile_one(args: argparse.Namespace, unit: tuple[str, str]) -> dict[str, Any]:
  """Returns the seconds of tracing and compiling a side of a row, or the error."""
  try:
    found = _measure_ours(*unit, args, XLA_PYTHON_CLIENT_PREALLOCATE='false')
  except (RuntimeError, subprocess.TimeoutExpired) as error:
    return {'error': str(error)[-3000:]}
  return {name: found[name] for name in ('trace_seconds', 'compile_seconds')}


# ---- steps ---------------------------------------------------------------------------------------


def step_units(args: argparse.Namespace) -> Iterator[Unit]:
  """Yields the measurements of all rounds.

  Each round begins with another side. Sides that may break come after all rounds of the others.
  """
  late = [key for key in SIDES if key.endswith(('compiled', 'in_turn', 'unrolled'))]
  early = [key for key in SIDES if key not in late]
  for name in ROWS:
    yield f'{name}/flops', functools.partial(_count, name, args)
  for i in range(args.rounds):
    start = 3 * i % len(early)
    for name in ROWS:
      for key in early[start:] + early[:start]:
        yield f'{name}/{key}/{i}', functools.partial(_measure, name, key, args)
  for i in range(args.rounds):
    for key in late:
      for name in SIDES[key].rows:
        yield f'{name}/{key}/{i}', functools.partial(_measure, name, key, args)


def _count(name: str, args: argparse.Namespace) -> dict[str, Any]:
  """Counts the arithmetic of a step of the published function, without unused gradients."""
  words = [*_peer_words(name, args), *ROWS[name].tuned, '--flops', '--warmup=0', '--steps=1']
  return processes.run('experiments.benchmarks.torch_darts', words, timeout=_LIMIT)


def _measure(name: str, key: str, args: argparse.Namespace) -> dict[str, Any]:
  """Measures a side of a row in one fresh process."""
  side = SIDES[key]
  if side.ours:
    return _measure_ours(name, key, args)
  tuned = ROWS[name].tuned if side.tuned else ()
  # In the warm-up cuDNN tries its algorithms, and torch.compile compiles.
  words = [*_peer_words(name, args), *tuned, *side.words, '--warmup=3', f'--steps={args.steps}']
  return processes.run('experiments.benchmarks.torch_darts', words, timeout=_LIMIT)


def _measure_ours(name: str, key: str, args: argparse.Namespace, **more: str) -> dict[str, Any]:
  """Measures one of our sides in a fresh process that finds earlier compiled programs.

  Args:
    name: of the row.
    key: of the side.
    args: the command line of `gpu`.
    **more: variables of the environment.
  """
  side = SIDES[key]
  variables = environment(args) | more
  if side.precision:
    variables['JAX_DEFAULT_MATMUL_PRECISION'] = side.precision
  words = [*_our_words(name, args), *side.words]
  cache = args.out / 'cache' / f'{name}_{key}'
  return processes.benchmark(words, cache, variables, timeout=_LIMIT)


# ---- profile -------------------------------------------------------------------------------------


def profile_units(args: argparse.Namespace) -> Iterator[Unit]:
  """Yields a trace of our search in bfloat16."""
  yield 'search/ours_bf16', functools.partial(_profile, args)


def _profile(args: argparse.Namespace) -> dict[str, Any]:
  """Traces two steps; a trace of more steps would be too large to be sent."""
  folder, cache = args.out / 'profile', args.out / 'cache' / 'profile'
  words = [*_our_words('search', args), *_HALF, f'--profile={folder}']
  words += ['--config.search.steps_per_call=2']
  found = processes.benchmark(words, cache, environment(args), timeout=_LIMIT)
  traces = [path for path in folder.rglob('*') if path.is_file()]
  sizes = {str(path.relative_to(args.out)): path.stat().st_size for path in traces}
  return {**found, 'traces': sizes}
