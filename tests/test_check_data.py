"""Tests of the command that looks at a folder of images before a run."""

import numpy as np
import pytest
from PIL import Image

from stretchnas_jax import check_data
from stretchnas_jax.cli import app


@pytest.fixture
def tree(tmp_path):
  """Makes training and test images of two classes; one file is the same in both parts."""
  random = np.random.default_rng(0)
  for part, count in ('train', 9), ('Test', 2):
    for name in 'ab':
      for i in range(count):
        file = tmp_path / 'set' / part / name / f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 10, 3), np.uint8)).save(file)
  copy = tmp_path / 'set' / 'Test' / 'a' / '0.png'
  copy.write_bytes((tmp_path / 'set' / 'train' / 'a' / '3.png').read_bytes())
  (tmp_path / 'set' / 'train' / 'b' / 'x.heic').write_bytes(b'x')
  return tmp_path / 'set'


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, root_logger):
  """Returns a function that runs the command; gives its exit code, output and errors."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.chdir(tmp_path)

  def run(*words):
    code = 0
    try:
      app.run(
        check_data.prepare, config=False, options=check_data.OPTIONS, positional=('folder',),
        argv=['check_data', *map(str, words)],
      )  # fmt: skip
    except SystemExit as stop:
      code = stop.code
    return code, *capsys.readouterr()

  return run


def test_the_facts_of_a_folder_and_a_sheet(tree, run, tmp_path):
  code, out, _ = run(tree, '--image-size=8,16')
  assert code == 0
  lines = out.splitlines()
  assert lines[0] == f'folder    {tree}: 2 classes, 22 images'
  assert lines[1:3] == ['parts     train 18: a 9, b 9', '          test 4: a 2, b 2']
  assert lines[3:5] == ['sizes     height x width 12x10 (22)', 'pixels    RGB (22)']
  assert lines[5] == 'warning   passed over 1 file: .heic 1'
  assert lines[6] == (
    'warning   equal files in two parts or classes, 1: train/a/3.png and Test/a/0.png'
  )
  assert lines[7].startswith('mean      0.') and lines[8] == 'sheet     samples.png'
  with Image.open(tmp_path / 'samples.png') as sheet:
    pixels = np.asarray(sheet)
  assert sheet.size == (8 * (16 * 4 + 4) + 4, 2 * (8 * 4 + 4 + 14) + 4)
  assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500
  assert run(tree)[0] == 0  # writes its own sheet again


def test_a_folder_that_a_run_would_refuse(tree, run, tmp_path):
  (tree / 'train' / 'a' / '0.png').write_bytes(b'broken')
  code, out, err = run(tree)
  assert code == 2 and 'warning   1 of 22 images cannot be read: ' in out and 'sheet' not in out
  assert err.count('error: ') == 1 and '0.png is not a readable image' in err
  assert run(tmp_path / 'nowhere')[0] == 2
  (tmp_path / 'samples.png').write_bytes(b'of somebody')
  code, _, err = run(tree)
  assert code == 2 and 'which this command has not written' in err
  assert (tmp_path / 'samples.png').read_bytes() == b'of somebody'
  code, _, err = run(tree, '--image-size=large', '--out=x.png')
  assert code == 2 and '--image-size=large: it must be a number, or two numbers' in err
  code, _, err = run(tree, '--image-size=4', '--out=x.png')
  assert code == 2 and 'config.data.image_size is 4' in err


def test_a_search_needs_images_of_each_class_for_each_part(tree, run, tmp_path):
  for i in range(2, 9):
    (tree / 'train' / 'a' / f'{i}.png').unlink()
  for file in tree.rglob('*.png'):
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(file)
  code, out, err = run(tree, '--config=folder')
  assert code == 2 and 'data.range' in err and 'I;16 (15)' in out
  assert 'values    4000 to 4000 in images of more than 8 bits' in out
  code, out, _ = run(tree, '--config=folder', '--range=0,4095', '--out=grey.png')
  assert code == 0
  assert 'divides the images of train into 3 parts, and some classes have too few: a 2' in out
  assert 'mean      0.9765; deviation' in out
