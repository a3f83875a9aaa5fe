"""The folder of a run: whole files, one config, lines that survive a crash."""

import json
import math
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest

from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs import json_files, workdir

CONFIG = {'seed': 0, 'search': {'epochs': 50, 'betas': (0.5, 0.9)}, 'data': {'path': None}}


def make(path, config=CONFIG, **kwargs):
  return workdir.Workdir.open(path, config, argv=['prog', '--x=1'], **kwargs)


def contents(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_a_new_run_says_what_it_is_made_of(tmp_path):
  run = make(tmp_path / 'deep' / 'run')
  assert run.path.is_absolute() and not run.finished
  config = json.loads((run.path / 'config.json').read_text())
  assert config == {**CONFIG, 'search': {'epochs': 50, 'betas': [0.5, 0.9]}}
  record = json.loads((run.path / 'run.json').read_text())
  assert {'python', 'jax', 'flax', 'optax', 'numpy', 'stretchnas_jax'} <= record['versions'].keys()
  assert all(record['versions'].values())
  assert record['argv'] == ['prog', '--x=1'] and len(record['devices']) == 4
  assert len(record['starts']) == 1


def test_a_second_start_of_the_same_run_is_added(tmp_path):
  make(tmp_path)
  make(tmp_path)
  assert len(json.loads((tmp_path / 'run.json').read_text())['starts']) == 2


def test_a_damaged_record_of_starts_stops_nobody(tmp_path):
  make(tmp_path)
  (tmp_path / 'run.json').write_text('{"starts": [')
  make(tmp_path)
  assert len(json.loads((tmp_path / 'run.json').read_text())['starts']) == 1


def test_another_config_is_refused_by_field_and_harms_nothing(tmp_path):
  make(tmp_path)
  before = contents(tmp_path)
  other = {'seed': 1, 'search': {'epochs': 20, 'betas': (0.5, 0.9)}, 'new': 3}
  with pytest.raises(ValueError) as caught:
    make(tmp_path, other)
  text = str(caught.value)
  assert f'workdir {tmp_path} was made with' in text and '\n' not in text
  for part in ('search.epochs=50, now 20', 'seed=0, now 1', 'new=absent, now 3', 'data.path=null'):
    assert part in text
  assert 'betas' not in text
  assert contents(tmp_path) == before


def test_ignored_fields_may_differ_but_not_their_namesakes(tmp_path):
  make(tmp_path, {'log': {'tensorboard': False}, 'logs': 1, 'keep': 3})
  make(tmp_path, {'log': {'tensorboard': True}, 'logs': 1, 'keep': 4}, ignore=('log', 'keep'))
  assert json.loads((tmp_path / 'config.json').read_text())['keep'] == 4
  with pytest.raises(ValueError, match='logs=1, now 2'):
    make(tmp_path, {'log': {}, 'logs': 2, 'keep': 4}, ignore=('log', 'keep'))


@pytest.mark.parametrize('old, new', [(1, True), (1, 1.0), (None, 0), ({}, None), ('1', 1)])
def test_values_of_different_types_differ(tmp_path, old, new):
  make(tmp_path, {'a': old})
  with pytest.raises(ValueError, match='was made with a='):
    make(tmp_path, {'a': new})


def test_a_folder_that_is_no_run_is_refused(tmp_path):
  (tmp_path / 'thesis.tex').write_text('x')
  with pytest.raises(ValueError, match='not empty'):
    make(tmp_path)
  assert os.listdir(tmp_path) == ['thesis.tex']
  with pytest.raises(ValueError, match='is a file'):
    make(tmp_path / 'thesis.tex')


def test_a_start_that_another_process_makes_meanwhile_is_the_same_run(tmp_path, monkeypatch):
  iterdir = pathlib.Path.iterdir

  def begin_first(path):
    (path / 'config.json').write_text(json.dumps(CONFIG))
    return iterdir(path)

  monkeypatch.setattr(pathlib.Path, 'iterdir', begin_first)
  assert make(tmp_path).config == json.loads(json.dumps(CONFIG))


def test_seeds_that_began_alone_are_taken_up_together(tmp_path):
  make(tmp_path / 'seed_0').close()
  with pytest.raises(ValueError, match='not empty'):
    make(tmp_path)
  several = {'seeds': [0, 1], 'data': {'path': None}}
  make(tmp_path, several).close()
  (tmp_path / 'config.json').unlink()
  with pytest.raises(ValueError, match='not empty'):  # run.json is of somebody else
    make(tmp_path, several)


HOLD = """
import sys, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print('held', flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path):
  make(tmp_path).close()
  before = contents(tmp_path)
  command = [sys.executable, '-c', HOLD, str(tmp_path / workdir.LOCK)]
  pipe = subprocess.PIPE
  with subprocess.Popen(command, stdin=pipe, stdout=pipe) as holder:
    assert holder.stdout.readline() == b'held\n'
    with pytest.raises(OSError, match='is in use by another process: wait until') as caught:
      make(tmp_path)
    assert isinstance(caught.value, ValueError) and contents(tmp_path) == before
    holder.kill()
  make(tmp_path).close()


def test_a_folder_is_locked_until_it_is_closed(tmp_path):
  with make(tmp_path) as run:
    with pytest.raises(ValueError, match='in use'):
      make(tmp_path)
    with pytest.raises(ValueError, match='was made with'):
      make(tmp_path, {'seed': 3})
    run.write_text('a', 'x')
  make(tmp_path).close()
  with pytest.raises(ValueError, match='was made with'):
    make(tmp_path, {'seed': 3})
  make(tmp_path).close()


def test_a_line_for_which_there_is_no_room_is_an_error(tmp_path, monkeypatch):
  most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
  lines = make(tmp_path).lines('m.jsonl')
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, most))
    lines.append({'step': 1})
    with pytest.raises(OSError, match='no room for a whole line'):
      lines.append({'step': 2, 'text': 'x' * 30})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
  lines.cut_back(5)
  assert json_files.read_lines(lines.path) == [{'step': 1}]


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='there is no device that is full')
def test_a_disk_that_is_full_is_said_with_the_name_of_the_file():
  with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
    json_files.Lines(pathlib.Path('/dev/full')).append({'step': 1})


def test_a_digest_is_of_the_fields_that_matter():
  digest = lambda config: fields_lib.digest(config, ('log', 'search.calls'))
  config = {'seed': 0, 'log': {'board': True}, 'search': {'calls': 3, 'sizes': (1, 2)}}
  same = {'search': {'sizes': [1, 2], 'calls': 4}, 'log': {'board': False}, 'seed': 0}
  assert digest(config) == digest(same)
  assert digest(config) != digest({**config, 'seed': 1}) != digest({**config, 'seed': 0.0})


def test_an_empty_folder_and_one_of_a_start_that_was_killed_are_taken(tmp_path):
  (tmp_path / 'a').mkdir()
  make(tmp_path / 'a')
  (tmp_path / 'b').mkdir()
  (tmp_path / 'b' / f'{workdir.TEMPORARY}xyz').write_text('{"se')
  make(tmp_path / 'b')


def test_a_damaged_config_is_an_error(tmp_path):
  make(tmp_path)
  for text in ('{"seed": ', '[1]', ''):
    (tmp_path / 'config.json').write_text(text)
    with pytest.raises(ValueError, match='config.json is damaged'):
      make(tmp_path)


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
  run = make(tmp_path)
  run.write_text('cells.svg', 'old')
  names = set(os.listdir(tmp_path))

  def fail(*args):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    run.write_text('cells.svg', 'new')
  assert (tmp_path / 'cells.svg').read_text() == 'old'
  assert set(os.listdir(tmp_path)) == names


def test_written_files_have_the_usual_permissions(tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'umask', None)  # it is that of all threads, and stays as it is
  run = make(tmp_path)
  run.write_json('result.json', {'a': 1})
  (tmp_path / 'plain').write_text('x')
  assert (tmp_path / 'result.json').stat().st_mode == (tmp_path / 'plain').stat().st_mode
  assert run.finished


def test_json_has_no_nan_and_takes_numpy(tmp_path):
  run = make(tmp_path)
  values = {
    'a': math.nan, 'b': np.float32(0.5), 'c': np.int64(3), 'd': [math.inf, 1.0],
    'e': np.array([1.0, math.nan]), 'f': (True, None),
  }  # fmt: skip
  run.write_json('x.json', values)
  expected = {'a': None, 'b': 0.5, 'c': 3, 'd': [None, 1.0], 'e': [1.0, None], 'f': [True, None]}
  assert json.loads((tmp_path / 'x.json').read_text()) == expected


def test_lines_are_appended_and_cut_back(tmp_path):
  lines = make(tmp_path).lines('metrics.jsonl')
  assert json_files.read_lines(lines.path) == []
  lines.cut_back(0)
  for step in (10, 20, 30):
    lines.append({'step': step, 'loss': math.nan if step == 20 else 1 / step})
  assert lines.path.read_bytes().count(b'\n') == 3
  lines.cut_back(20)
  assert json_files.read_lines(lines.path) == [
    {'step': 10, 'loss': 0.1},
    {'step': 20, 'loss': None},
  ]
  lines.append({'step': 30})
  assert [line['step'] for line in json_files.read_lines(lines.path)] == [10, 20, 30]


@pytest.mark.parametrize('cut', range(1, 20))
def test_a_torn_line_is_dropped_wherever_it_was_torn(tmp_path, cut):
  lines = make(tmp_path).lines('metrics.jsonl')
  lines.append({'step': 1, 'x': 2})
  lines.append({'step': 2, 'x': 3})
  whole = lines.path.read_bytes()
  lines.path.write_bytes(whole[:-cut])
  kept = 2 if cut == 1 else 1  # without its line end alone, the line still says everything
  assert len(json_files.read_lines(lines.path)) == kept
  lines.cut_back(5)
  lines.append({'step': 3, 'x': 4})
  steps = [json.loads(line)['step'] for line in lines.path.read_text().splitlines()]
  assert steps == [1, 2, 3][:kept] + [3]


def test_cutting_back_drops_what_is_no_line_of_a_run(tmp_path):
  lines = make(tmp_path).lines('m.jsonl')
  lines.path.write_bytes(b'{"step": 1}\n\xff\xfe\n[3]\n{"epoch": 1}\n\n{"step": 2}\n')
  lines.cut_back(9)
  assert lines.path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_a_second_process_writes_nothing(tmp_path):
  run = workdir.Workdir(tmp_path, writes=False)
  run.write_text('a', 'x')
  run.lines('b').append({'step': 1})
  run.lines('b').cut_back(0)
  assert os.listdir(tmp_path) == []
