"""What `gpu` measures of a device, piece by piece, each in a fresh process.

A stage is a generator of pairs: a name, and a function that returns a dict of what was found.
"""

import concurrent.futures
import functools
import os
import subprocess
import sys
from typing import NamedTuple

from experiments.benchmarks import compare, gpu_tables, processes

LIMIT = 300  # seconds for a measurement; a compiler that takes longer is a result

# What a GPU computes by other programs than a CPU. Tests of four devices have but one here.
TESTS = (
  'operations', 'supernet', 'network', 'cells', 'bilevel', 'unrolled', 'relaxation', 'topology',
  'training',
)  # fmt: skip
NOT_HERE = 'not four_devices and not does_not_divide'

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


class Side(NamedTuple):
  """One way to compute a row."""

  title: str
  arithmetic: str  # whose peak counts, as in `gpu_tables.PEAKS`
  words: tuple[str, ...] = ()
  ours: bool = True
  tuned: bool = False  # PyTorch with the row's words for that
  precision: str | None = None  # JAX's, of products of float32
  rows: tuple[str, ...] = tuple(ROWS)


HALF = ('--config.model.dtype=bfloat16',)
SIDES = {
  'ours_float32': Side('ours, float32', 'float32', precision='highest'),
  'ours_tf32': Side('ours, TF32', 'tf32', precision='tensorfloat32'),
  'ours_bf16': Side('ours, bfloat16', 'bfloat16', HALF),
  # Both marks have TF32, as PyTorch's convolutions have it unless told otherwise.
  'plain': Side('PyTorch, plain, TF32', 'tf32', ours=False),
  'tuned': Side('PyTorch, tuned, TF32', 'tf32', ours=False, tuned=True),
  'tuned_bf16': Side(
    'PyTorch, tuned, bfloat16', 'bfloat16', ('--dtype=bfloat16',), ours=False, tuned=True
  ),
  'tuned_bf16_compiled': Side(
    'PyTorch, tuned, bfloat16, torch.compile', 'bfloat16', ('--dtype=bfloat16', '--compile'),
    ours=False, tuned=True,
  ),
  # A training has no losses to compile apart.
  'ours_bf16_unrolled': Side(
    'ours, bfloat16, search.unroll', 'bfloat16', (*HALF, '--config.search.unroll=True'),
    rows=('search', 'stretchable'),
  ),
}  # fmt: skip

# In a rehearsal, the last word of a kind counts.
TINY_STEP = ('--config.model.channels=4', '--config.model.num_layers=3')
TINY_SEARCH = ('--config.space.num_intermediate=2', '--config.search.batch_size=4')
TINY_PEER = ('--channels=4', '--layers=3', '--batch=4', '--threads=1')


# ---- measurements --------------------------------------------------------------------------------


def environment(args):
  """For JAX: no silent way back to the CPU."""
  if args.rehearse:
    return {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
  return {'JAX_PLATFORMS': 'cuda'}


def run_tests(name, args):
  """One test file on the device, in full precision: its tolerances are those of float32."""
  words = ['-m', 'pytest', '-q', '--tb=short', '-W', 'default', '-p', 'no:cacheprovider']
  words += ['-k', NOT_HERE, f'tests/test_{name}.py']
  variables = environment(args) | {'JAX_DEFAULT_MATMUL_PRECISION': 'highest'}
  done = subprocess.run(
    [sys.executable, *words], cwd=processes.ROOT, capture_output=True, text=True,
    timeout=2 * LIMIT, env=os.environ | variables,
  )  # fmt: skip
  lines = done.stdout.splitlines()
  found = gpu_tables.counts(lines[-1] if lines else '')
  if not any(found[name] for name in ('passed', 'failed', 'errors')):
    raise RuntimeError(f'no test ran: {(done.stderr.strip() or done.stdout)[-1000:]}')
  return found | {'code': done.returncode, 'tail': (lines or done.stderr.splitlines())[-60:]}


def test_units(args):
  for name in ('relaxation', 'topology') if args.rehearse else TESTS:
    yield name, functools.partial(run_tests, name, args)


def our_words(name, args):
  """A row's words for our benchmark."""
  words = [*ROWS[name].ours, '--noevaluation', f'--steps={args.steps}']
  if args.rehearse:
    words += TINY_STEP
    words += ('--config.train.batch_size=4',) if name == 'train' else TINY_SEARCH
  return words


def peer_words(name, args):
  words = [*ROWS[name].peer, f'--device={"cpu" if args.rehearse else "cuda"}']
  if args.rehearse:
    words += [*TINY_PEER, *(['--nodes=2'] if name != 'train' else [])]
  return words


def measure_ours(name, key, args, **more):
  """One fresh process, which finds what it has compiled before; `more` for its environment."""
  side, variables = SIDES[key], environment(args) | more
  if side.precision:
    variables['JAX_DEFAULT_MATMUL_PRECISION'] = side.precision
  words, cache = [*our_words(name, args), *side.words], args.out / 'cache' / f'{name}_{key}'
  return processes.benchmark(words, cache, variables, timeout=LIMIT)


def compile_all(args):
  """Our sides for the first time, one for two CPUs at once: alone a compiler leaves CPUs idle.

  Their compilers take from each other, so that each takes longer than alone; what they time beside
  each other is not kept.
  """
  wanted = [
    (name, key) for key, side in SIDES.items() if side.ours for name in side.rows
    if not args.only or any(text in f'{name}/{key}' for text in args.only)
  ]  # fmt: skip

  def first(unit):
    try:
      found = measure_ours(*unit, args, XLA_PYTHON_CLIENT_PREALLOCATE='false')
      return {what: found[what] for what in ('trace_seconds', 'compile_seconds')}
    except (RuntimeError, subprocess.TimeoutExpired) as error:
      return {'error': str(error)[-3000:]}

  with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
    return {'compiled': dict(zip(map('/'.join, wanted), pool.map(first, wanted)))}


def compile_units(args):
  yield 'compile', functools.partial(compile_all, args)


def measure(name, key, args):
  """One fresh process. The first one of ours compiles, unless that has been done before."""
  side = SIDES[key]
  if side.ours:
    return measure_ours(name, key, args)
  tuned = ROWS[name].tuned if side.tuned else ()
  # Warm-up: cuDNN tries its algorithms, and torch.compile compiles.
  words = [*peer_words(name, args), *tuned, *side.words, '--warmup=3', f'--steps={args.steps}']
  return processes.run('experiments.benchmarks.torch_darts', words, timeout=LIMIT)


def count(name, args):
  """The arithmetic of a step of the published function, without what is not used."""
  words = [*peer_words(name, args), *ROWS[name].tuned, '--flops', '--warmup=0', '--steps=1']
  return processes.run('experiments.benchmarks.torch_darts', words, timeout=LIMIT)


def step_units(args):
  """Each round begins with another side; what may break comes after all rounds."""
  rows = list(ROWS)
  late = [key for key in SIDES if 'compiled' in key or 'unrolled' in key]
  early = [key for key in SIDES if key not in late]
  for name in rows:
    yield f'{name}/flops', functools.partial(count, name, args)
  for i in range(args.rounds):
    start = 3 * i % len(early)
    for name in rows:
      for key in early[start:] + early[:start]:
        yield f'{name}/{key}/{i}', functools.partial(measure, name, key, args)
  for i in range(args.rounds):
    for key in late:
      for name in SIDES[key].rows:
        yield f'{name}/{key}/{i}', functools.partial(measure, name, key, args)


def profile(args):
  """A trace of two steps: of more, it would be too large to be sent."""
  folder, cache = args.out / 'profile', args.out / 'cache' / 'profile'
  words = [*our_words('search', args), *HALF, f'--profile={folder}']
  words += ['--config.search.steps_per_call=2']
  found = processes.benchmark(words, cache, environment(args), timeout=LIMIT)
  traces = [path for path in folder.rglob('*') if path.is_file()]
  return found | {'traces': {str(p.relative_to(args.out)): p.stat().st_size for p in traces}}


def profile_units(args):
  yield 'search/ours_bf16', functools.partial(profile, args)
