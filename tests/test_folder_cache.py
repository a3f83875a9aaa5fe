"""Tests of the cache of decoded class folders."""

import os

import numpy as np
import pytest
from image_folders import GREY, make_tree, save

from stretchnas_jax.data.datasets import folder, images, loading, pixels
from stretchnas_jax.data.datasets.encoded_images import Files


@pytest.fixture
def tree(tmp_path):
  return make_tree(tmp_path / 'animals')


@pytest.fixture
def load(tmp_path):
  return lambda path, **options: loading.load(
    'folder', path=str(path), cache=tmp_path / 'cache', **options
  )


def test_images_are_decoded_once(tree, load, monkeypatch):
  first = load(tree)
  monkeypatch.setattr(images, 'whole', None)
  second = load(tree)
  np.testing.assert_array_equal(first.train_images, second.train_images)
  assert second.class_names == first.class_names and type(second.class_names[0]) is str


def test_the_spelling_of_a_path_does_not_count(tree, load, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save(tmp_path / 'grey' / 'a' / '0.png', GREY)
  parts = lambda path: [Files.of(str(path), [('a/0.png', 0)])]
  grey = lambda path: folder.all_grey(parts(path), 8, cache=tmp_path / 'cache')
  load(tree)
  assert grey(tmp_path / 'grey')
  monkeypatch.setattr(folder, '_decode', None)
  monkeypatch.setattr(pixels, 'all_grey', lambda *_, most=None: most == 1)
  assert len(load(tree.name).train_images) == 5 and grey('grey')


SWAPS = ['new', 'gone', 'renamed', 'touched', 'size', 'swapped', 'moved', 'overwritten']


@pytest.mark.parametrize('change', SWAPS)
def test_the_cache_follows_the_files(tree, load, change):
  load(tree)
  file, size = tree / 'dog' / '2.bmp', 32
  if change == 'new':
    save(tree / 'dog' / '9.bmp')
  elif change == 'gone':
    file.unlink()
  elif change == 'renamed':
    file.rename(tree / 'cat' / '0.bmp')
  elif change == 'touched':
    stat = file.stat()
    save(file, (9, 9, 9))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert file.stat().st_size == stat.st_size
  elif change in ('swapped', 'moved', 'overwritten'):
    put_in_place(change, file)
  else:
    size = 16
  data = load(tree, image_size=size)
  labels = {'new': [0, 0, 1, 1, 1, 1], 'gone': [0, 0, 1, 1], 'renamed': [0, 0, 0, 1, 1]}
  assert list(data.train_labels) == labels.get(change, [0, 0, 1, 1, 1])
  assert data.train_images.shape[1] == size
  if change in ('touched', 'moved', 'overwritten'):
    assert (data.train_images[-1] == 9).all()
  if change == 'swapped':
    np.testing.assert_array_equal(data.train_images[:, 0, 0, 0], [0, 1, 202, 201, 200])


def put_in_place(how, file):
  """Puts another image of the same size and time in the place of a file."""
  stat, other = file.stat(), file.with_name('other')
  if how == 'swapped':  # with the first image of the same class
    first = file.with_name('0.bmp')
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    file.rename(other)
    first.rename(file)
    other.rename(first)
    return
  save(file.with_name('new.bmp'), (9, 9, 9)).rename(other)
  if how == 'moved':  # as `mv` and `rsync -t` do
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.rename(file)
  else:  # as `cp -p` does: the inode stays
    file.write_bytes(other.read_bytes())
    other.unlink()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
  assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def test_two_folders_of_one_name(tree, load, tmp_path):
  load(tree)
  save(tmp_path / 'x' / 'animals' / 'cat' / '0.png', GREY)
  save(tmp_path / 'x' / 'animals' / 'dog' / '0.png', GREY)
  assert len(load(tmp_path / 'x' / 'animals').train_images) == 2
  assert len(load(tree).train_images) == 5
  assert len(list((tmp_path / 'cache').iterdir())) == 2
