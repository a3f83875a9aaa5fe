"""Jobs of several real processes, and other numbers of devices."""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import filelock
import jax
import numpy as np
import pytest
from helpers import ROOT

import stretchnas_jax
from experiments.reliability import jobs, lost, programs
from stretchnas_jax.data.batches import feeds, in_memory
from stretchnas_jax.data.datasets import loading
from stretchnas_jax.machine import host_memory, measure, parallel
from stretchnas_jax.runs import json_files, workdir


def test_a_job_that_loses_a_process_goes_on_alone_and_ends_as_one_device_does(tmp_path):
  """Two processes train, and one is killed in mid-epoch. Eight devices go on in one process.

  Meanwhile eight devices train from the start, and one device does.
  """
  (tmp_path / 'train.py').write_text(lost.CONFIG.format(epochs=8))
  (tmp_path / 'cell.json').write_text(json.dumps(lost.CELL))
  words = [f'--config={tmp_path}/train.py', f'--genotype={tmp_path}/cell.json']
  path, alone, eight = tmp_path / 'run', tmp_path / 'alone', tmp_path / 'eight'
  with jobs.Job('train', path, words, processes=2) as job:
    while programs.newest(path) < 6:
      assert all(process.poll() is None for process in job.processes), job.words()
      time.sleep(0.05)
    job.processes[1].send_signal(signal.SIGKILL)
    codes, text = job.wait(), job.words()[0]
  assert codes == [3, -signal.SIGKILL]
  named = r'error: process 1 of 2 \(.*, pid \d+\) has died; all processes of this job stop, and the'
  assert re.search(named, text), text
  assert (' MB on each device' in text) == parallel.compiler_knows_memory()
  with (
    jobs.Job('train', path, words, devices=8) as job,
    jobs.Job('train', eight, [*words, '--config.parallel.backend=shard_map'], devices=8) as other,
  ):
    stretchnas_jax.run_train(load(tmp_path / 'train.py'), alone, tmp_path / 'cell.json')
    assert job.wait() == [0], job.words()
    assert other.wait() == [0], other.words()
  assert re.search(r'resumed at step \d+ of 32', job.words()[0])
  assert 'devices   8 x cpu, shard_map' in other.words()[0]
  expected = json_files.read_lines(alone / 'metrics.jsonl')
  for lines in (json_files.read_lines(p / 'metrics.jsonl') for p in (path, eight)):
    assert [line['epoch'] for line in lines] == list(range(1, 9))
    for name in ('train_loss', 'train_accuracy', 'test_loss'):
      values = [[line[name] or 0 for line in each] for each in (lines, expected)]
      np.testing.assert_allclose(*values, atol=1e-4)


SHARES = """
import sys, jax
from stretchnas_jax.machine import peers, start
start.set_up()
try:
  peers.join(sys.argv[1])
except ValueError as error:
  print(error)
print(jax.config.values['jax_cuda_visible_devices'])
"""


def test_processes_take_equal_shares_and_name_unequal_numbers_of_devices():
  """One host has four GPUs for its process, the other three for two. The CPUs are unequal."""
  mpi, gpus = 'OMPI_COMM_WORLD_LOCAL_', 'CUDA_VISIBLE_DEVICES'
  found = answers(
    SHARES,
    {f'{mpi}SIZE': '1', f'{mpi}RANK': '0', gpus: '4,5,6,7', 'JAX_NUM_CPU_DEVICES': '3'},
    {f'{mpi}SIZE': '2', f'{mpi}RANK': '1', gpus: '0,1,2,3', 'JAX_NUM_CPU_DEVICES': '2'},
  )
  for (out, err), gpus in zip(found, ('0,1', '2,3')):
    sentence, visible = out.strip().splitlines()
    assert sentence.startswith('process 0 has 3 devices and process 1 has 2: all need'), err
    assert visible == gpus


JOINS = """
import sys, jax
from stretchnas_jax.machine import peers, program_cache, start
start.set_up()
with peers.join(sys.argv[1]):
  program_cache.agree()
  print(jax.config.jax_enable_compilation_cache)
"""


@pytest.mark.parametrize('folders, kept', [(('a', 'a'), True), (('a', 'b'), False)])
def test_processes_that_do_not_share_the_folder_of_programs_keep_none(tmp_path, folders, kept):
  """On a GPU process 0 would find its program, and the others would wait for it."""
  found = answers(
    JOINS, *({'JAX_COMPILATION_CACHE_DIR': str(tmp_path / folder)} for folder in folders)
  )
  assert [out.split()[-1] for out, _ in found] == [str(kept)] * 2, found
  assert ('need one folder' in found[0][1]) != kept
  assert 'need one folder' not in found[1][1]


def answers(program, *variables):
  """What two processes of one job write, each with its own variables of the environment."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  started = [
    subprocess.Popen(
      [sys.executable, '-c', program, f'localhost:{port},2,{index}'],
      env=os.environ | {'JAX_PLATFORMS': 'cpu'} | own,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )
    for index, own in enumerate(variables)
  ]  # fmt: skip
  try:
    return [process.communicate(timeout=120) for process in started]
  finally:
    for process in started:
      process.kill()  # only one that is still there


def load(path):
  """Returns the config of a config file, for one device."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  config.parallel.backend = 'single'
  return config


def test_an_error_of_one_process_ends_all(tmp_path):
  """Only the first process locks the folder, and finds that it is in use."""
  config, path = tmp_path / 'train.py', tmp_path / 'run'
  config.write_text(lost.CONFIG.format(epochs=8))
  path.mkdir()
  with filelock.FileLock(path / workdir.LOCK):
    words = [f'--config={config}', '--genotype=DARTS_V2']
    with jobs.Job('train', path, words, processes=2) as job:
      codes, texts = job.wait(), job.words()
  assert codes == [2, 3], texts
  assert re.search('error: workdir .* is in use by another process', texts[0])
  told = r'error: process 0 of 2 \(.*\) has stopped \(workdir .* is in use by another process'
  assert re.search(told, texts[1]), texts[1]
  assert not any('Traceback' in text for text in texts), texts


def test_processes_that_do_not_agree_all_end_with_one_sentence(tmp_path):
  config, path = tmp_path / 'train.py', tmp_path / 'run'
  config.write_text(lost.CONFIG.format(epochs=8))
  words, other = [f'--config={config}', '--genotype=DARTS_V2'], '--config.weights.learning_rate=0.5'
  with jobs.Job('train', path, words, processes=2, last_words=[other]) as job:
    codes, texts = job.wait(), job.words()
  assert codes == [2, 2], texts
  for text in texts:
    found = re.findall(r'^error: .*', text, re.MULTILINE)
    assert len(found) == 1 and 'Traceback' not in text, text
    assert 'config.weights.learning_rate is 0.025 in process 0 and 0.5 in process 1' in found[0]
  assert not path.exists()


def test_one_device_cannot_serve_several_processes(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(ValueError, match='parallel.backend is single, .* this job has 2 processes'):
    parallel.check_backend('single')
  parallel.check_backend('pmap')


def digits_feeds(dataset, process=(0, 1)):
  supply = in_memory.ArraySupply(dataset, 6, seed=0, process=process)
  return feeds.train_feeds(supply, fraction=0.1, holdout=0.3)


def test_the_shares_of_processes_are_the_whole_batch():
  dataset = loading.load('digits', image_size=8)
  whole, *shares = [digits_feeds(dataset, process) for process in ((0, 1), (0, 2), (1, 2))]
  rows = [each.train.chunk(1, 2, 3, 4)['train'] for each in (whole, *shares)]
  assert rows[0].shape == (4, 6) and rows[1].shape == (4, 3)
  np.testing.assert_array_equal(rows[0], np.concatenate(rows[1:], axis=1))
  parts = [list(each.val.chunks(50)) for each in (whole, *shares)]
  for expected, *found in zip(*parts, strict=True):
    for k in range(2):
      joined = np.concatenate([each[k] for each in found], axis=1)
      np.testing.assert_array_equal(expected[k], joined)
  with pytest.raises(ValueError, match='batch size is 6; it must be a multiple of the 4 processes'):
    digits_feeds(dataset, (0, 4))


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='other devices have their own memory')
@pytest.mark.parametrize('backend', parallel.BACKENDS)
def test_images_in_memory_are_on_a_cpu_only_once(backend):
  dataset = loading.load('digits', image_size=8)
  data = digits_feeds(dataset).train.data
  rows = dataset.train_images.reshape(len(dataset.train_images), -1)
  np.testing.assert_array_equal(data.images, rows)
  placed = parallel.replicate(data, backend).images
  first = placed.addressable_shards[0].data
  assert first.unsafe_buffer_pointer() == data.images.ctypes.data
  np.testing.assert_array_equal(placed, rows)


@pytest.mark.parametrize('backend', parallel.BACKENDS)
def test_the_memory_of_a_step_is_known_before_it_runs(backend, monkeypatch):
  """The step holds the products of all rows of a batch, which are a square. It compiles once.

  The memory that the compiler takes for its answer is given back each time.
  """
  given_back = []
  monkeypatch.setattr(host_memory, 'give_back', lambda: given_back.append(1))

  def step(state, rows, *, axis_name):
    products = jax.numpy.tanh(rows @ rows.T)
    total = jax.numpy.sin(products @ products).sum()
    return state + (total if axis_name is None else jax.lax.pmean(total, axis_name))

  program = parallel.data_parallel(step, in_axes=(None, 0), backend=backend)
  state = parallel.replicate(np.float32(0), backend)
  found = {}
  with measure.compilation() as compiled:
    for size in (256, 512):
      rows = np.ones((size, 2), np.float32)
      found[size] = program.memory(state, rows)
      state = program(state, rows)
  assert len(compiled.seconds) <= 4  # for each size the step, and the program that splits the batch
  if not parallel.compiler_knows_memory():
    assert set(found.values()) == {None}
    return
  assert len(given_back) == 2
  devices = parallel.device_count(backend)
  for size, memory in found.items():
    square = 4 * (size // devices) ** 2
    assert square <= memory.temporary <= 4 * square
    rows = 4 * 2 * size // devices
    assert rows <= memory.arguments <= 2 * rows + 64
    assert memory.total == memory.temporary + memory.arguments
