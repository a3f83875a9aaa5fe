"""The whole searches and trainings of `gpu`, which stop when its time is up, and go on."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import time

from experiments.benchmarks import gpu_stages, processes
from stretchnas_jax.machine import files

STOPPING = 90  # seconds for a run to save its state when it is asked to stop
RUNS = {'darts_wo_sc': gpu_stages.WO_SC, 'milenas_sc_l8': gpu_stages.SC}
KEPT = ('genotype.json', 'metrics.jsonl', 'result.json')
TINY_RUN = (*gpu_stages.TINY_STEP, '--config.data.fraction=0.02')


def whole_run(program, name, words, args, clock):
  """A run to its end, or until the time is up: asked to stop, it saves, and goes on next time."""
  folder = args.out / 'runs' / name
  folder.parent.mkdir(exist_ok=True)
  path = '--config.data.path=' + str(args.data_path.resolve())
  command = [sys.executable, '-m', f'stretchnas_jax.{program}', f'--workdir={folder}', *words]
  command += ['--config.data.name=folder', path, '--config.data.image_size=32', *args.ours]
  log, spent = folder.with_suffix('.log'), folder.with_suffix('.seconds')
  parts = spent.read_text('utf-8').split() if spent.exists() else []
  variables = os.environ | gpu_stages.environment(args)
  begin, stopped = time.monotonic(), False
  with open(log, 'ab') as said:
    process = subprocess.Popen(command, cwd=processes.ROOT, stdout=said, stderr=said, env=variables)
    try:
      process.wait(min(clock.left(), 86400))
    except subprocess.TimeoutExpired:
      stopped = True
    finally:
      end(process)
      parts.append(f'{time.monotonic() - begin:.1f}')
      files.replace(spent, ' '.join(parts).encode())
  return left_by(folder, args.out / 'kept' / name, parts, process.returncode, stopped)


def end(process):
  """Asks a process to stop, and makes it."""
  process.terminate()
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(STOPPING)
  process.kill()
  process.wait()


def left_by(folder, kept, parts, code, stopped):
  """What a run has come to; what is small of it is copied, to be taken along."""
  kept.mkdir(parents=True, exist_ok=True)
  for file in KEPT:
    if (folder / file).exists():
      shutil.copyfile(folder / file, kept / file)
  read = lambda file: (kept / file).read_text('utf-8') if (kept / file).exists() else ''
  lines = [json.loads(line) for line in read('metrics.jsonl').splitlines()]
  seconds = [float(part) for part in parts]
  found = {'seconds': sum(seconds), 'parts': seconds, 'epochs': len(lines), 'code': code}
  found |= {'last': lines[-1] if lines else None, 'done': code == 0}
  if code == 0:
    found['result'] = json.loads(read('result.json'))
  elif not stopped:
    text = folder.with_suffix('.log').read_text('utf-8', errors='replace')
    found |= {'error': text[-3000:], 'done': True}
  return found


def search_units(args, clock):
  for name, config in RUNS.items():
    words = [f'--config={config}']
    if args.rehearse:
      words += [*TINY_RUN, *gpu_stages.TINY_SEARCH, '--config.search.epochs=1']
    yield name, functools.partial(whole_run, 'search', name, words, args, clock)


def retrain_units(args, clock):
  """Of the cells that are found by now."""
  cells = {name: args.out / 'kept' / name / 'genotype.json' for name in RUNS}
  cells = {name: path for name, path in cells.items() if path.exists()} | {'DARTS_V2': 'DARTS_V2'}
  for name, cell in cells.items():
    words = ['--config=configs/train_cifar10.py', f'--genotype={cell}']
    words += ['--config.model.num_layers=8', f'--config.train.epochs={args.epochs}']
    if args.rehearse:
      words += [*TINY_RUN, '--config.train.epochs=1', '--config.train.batch_size=32']
    work = functools.partial(whole_run, 'train', f'train_{name}', words, args, clock)
    yield f'train_{name}', work
