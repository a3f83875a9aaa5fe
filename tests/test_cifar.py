"""Tests of CIFAR from its published files and from TFDS; the tests make up all files."""

import builtins
import io
import pickle
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from stretchnas_jax.data.datasets import cifar, loading, tfds

PARTS = {'cifar10': (10, [3] * 5, [4]), 'cifar100': (100, [7], [5])}


def fake(name, seed=0):
  """Returns images `[N, 32, 32, 3]` and labels for each file by its name."""
  rng = np.random.default_rng(seed)
  num_classes, train, test = PARTS[name]
  files = cifar.FILES[name]
  sizes = dict(zip(files.train + files.test, train + test))
  make = lambda n: (
    rng.integers(0, 256, (n, 32, 32, 3), np.uint8),
    rng.integers(0, num_classes, n),
  )
  return {file: make(n) for file, n in sizes.items()}


def rows(images):
  """Returns each image as the files hold it: one plane for each colour."""
  return np.stack([np.concatenate([im[..., c].ravel() for c in range(3)]) for im in images])


def as_pickle(name, images, labels, protocol=2):
  key = 'labels' if name == 'cifar10' else 'fine_labels'
  content = {'data': rows(images), key: [int(label) for label in labels], 'batch_label': 'x'}
  return pickle.dumps(content, protocol)


def as_python_2(name, images, labels):
  """Returns the same as Python 2 wrote it: old module names, byte strings, integers for flags."""
  text = as_pickle(name, images, labels)
  for new, old in [(b'numpy._core', b'numpy.core'), (b'\x89\x88\x87', b'K\x00K\x01\x87')]:
    assert new in text
    text = text.replace(new, old)
  return text


def as_binary(name, images, labels):
  prefix = [[0]] * len(labels) if name == 'cifar100' else [[]] * len(labels)
  table = [
    bytes([*p, label]) + row.tobytes() for p, label, row in zip(prefix, labels, rows(images))
  ]
  return b''.join(table)


FORMS = {'pickle': as_pickle, 'python 2': as_python_2, 'binary': as_binary}


def write(folder, name, form='pickle'):
  folder.mkdir(parents=True, exist_ok=True)
  suffix = '.bin' if form == 'binary' else ''
  for file, (images, labels) in fake(name).items():
    (folder / (file + suffix)).write_bytes(FORMS[form](name, images, labels))
  return folder


def check(data, name):
  content, files = fake(name), cifar.FILES[name]
  for part, names in ('train', files.train), ('test', files.test):
    wanted = [np.concatenate(arrays) for arrays in zip(*(content[n] for n in names))]
    np.testing.assert_array_equal(getattr(data, f'{part}_images'), wanted[0])
    np.testing.assert_array_equal(getattr(data, f'{part}_labels'), wanted[1])
    assert getattr(data, f'{part}_labels').dtype == np.int32
  assert len(data.class_names) == PARTS[name][0] and data.name == name
  np.testing.assert_allclose(data.mean, [0.4914, 0.4822, 0.4465], atol=1e-4)
  np.testing.assert_allclose(data.std, [0.2470, 0.2435, 0.2616], atol=1e-4)


@pytest.mark.parametrize('name', PARTS)
@pytest.mark.parametrize('form', FORMS)
def test_published_files(tmp_path, name, form):
  folder = write(tmp_path / cifar.FILES[name].folders[form == 'binary'], name, form)
  check(loading.load(name, path=str(folder)), name)
  check(loading.load(name, path=str(tmp_path)), name)


@pytest.mark.parametrize('name', PARTS)
@pytest.mark.parametrize('form', ['pickle', 'binary'])
def test_archives(tmp_path, name, form):
  files = cifar.FILES[name]
  folder = write(tmp_path / files.folders[form == 'binary'], name, form)
  packed = tmp_path / 'packed' / files.archives[form == 'binary']
  packed.parent.mkdir()
  with tarfile.open(packed, 'w:gz') as archive:
    archive.add(folder, folder.name)
  check(loading.load(name, path=str(packed)), name)
  check(loading.load(name, path=str(packed.parent)), name)
  assert list(packed.parent.iterdir()) == [packed]
  plain = tmp_path / 'plain.tar'
  with tarfile.open(plain, 'w') as archive:
    archive.add(folder, '../../' + folder.name)
  check(loading.load(name, path=str(plain)), name)


def test_newer_pickles(tmp_path):
  folder = write(tmp_path, 'cifar10')
  for file, (images, labels) in fake('cifar10').items():
    (folder / file).write_bytes(as_pickle('cifar10', images, np.array(labels), protocol=5))
  check(loading.load('cifar10', path=str(folder)), 'cifar10')


def test_another_image_size(tmp_path):
  data = loading.load('cifar10', path=str(write(tmp_path, 'cifar10')), image_size=12)
  assert data.train_images.shape == (15, 12, 12, 3) and data.test_images.shape == (4, 12, 12, 3)


class Malicious:
  def __reduce__(self):
    return builtins.print, ('gotcha',)


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
  folder = write(tmp_path, 'cifar10')
  (folder / 'data_batch_2').write_bytes(pickle.dumps({'data': Malicious()}, 2))
  with pytest.raises(ValueError, match='data_batch_2 is not a CIFAR file .*print is not allowed'):
    loading.load('cifar10', path=str(folder))
  assert capsys.readouterr().out == ''


ROWS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
  'content, words',
  [
    (b'', 'not a CIFAR file'),
    (b'hello', 'not a CIFAR file'),
    ([1, 2], 'not a CIFAR file'),
    ({'labels': [0]}, "no 'data'"),
    ({'data': ROWS}, "no 'labels'"),
    ({'data': ROWS, 'labels': [0]}, r'data of shape \(2, 3072\), labels of \(1,\)'),
    ({'data': ROWS[:, :-1], 'labels': [0, 0]}, r'data of shape \(2, 3071\)'),
    ({'data': ROWS[:0], 'labels': []}, r'data of shape \(0, 3072\)'),
    ({'data': ROWS.astype(float), 'labels': [0, 0]}, 'not a table of bytes'),
    ({'data': [1], 'labels': [0]}, 'not a table of bytes'),
    ({'data': ROWS, 'labels': [0, 10]}, 'whole numbers from 0 to 9'),
    ({'data': ROWS, 'labels': [0, -1]}, 'whole numbers from 0 to 9'),
    ({'data': ROWS, 'labels': [0, 0.5]}, 'whole numbers from 0 to 9'),
  ],
)
def test_a_damaged_file_is_named(tmp_path, content, words):
  folder = write(tmp_path, 'cifar10')
  text = content if isinstance(content, bytes) else pickle.dumps(content, 4)
  (folder / 'test_batch').write_bytes(text)
  with pytest.raises(ValueError, match=f'test_batch .*{words}'):
    loading.load('cifar10', path=str(folder))


@pytest.mark.parametrize('text', [b'', b'\x00' * 3072, b'\x0a' * 3073])
def test_a_damaged_binary_file_is_named(tmp_path, text):
  folder = write(tmp_path, 'cifar10', 'binary')
  (folder / 'data_batch_3.bin').write_bytes(text)
  with pytest.raises(ValueError, match='data_batch_3.bin'):
    loading.load('cifar10', path=str(folder))


def test_a_missing_file_is_named(tmp_path):
  folder = write(tmp_path / 'data', 'cifar10')
  (folder / 'data_batch_4').unlink()
  with pytest.raises(ValueError, match='not all of cifar10: the file data_batch_4 is missing'):
    loading.load('cifar10', path=str(folder))
  with pytest.raises(FileNotFoundError, match='has no cifar100: it must be cifar-100-python'):
    loading.load('cifar100', path=str(folder))
  with pytest.raises(FileNotFoundError, match='there is no such file'):
    loading.load('cifar10', path=str(tmp_path / 'nowhere'))


# ---- TFDS ----------------------------------------------------------------------------------------


def png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'png')
  file.seek(0)
  return file


def examples(name, names):
  for file in names:
    for i, (image, label) in enumerate(zip(*fake(name)[file])):
      extra = {'coarse_label': 0} if name == 'cifar100' else {}
      yield f'{file}-{i}', {'id': 'x', 'image': png(image), 'label': int(label), **extra}


def prepare(monkeypatch, data_dir, name):
  """Prepares a data set as `tfds build` does; PNG files given as bytes need no TensorFlow."""
  import tensorflow_datasets
  from tensorflow_datasets.image_classification import cifar as builders

  files = cifar.FILES[name]
  kind = builders.Cifar10 if name == 'cifar10' else builders.Cifar100
  splits = {'train': examples(name, files.train), 'test': examples(name, files.test)}
  monkeypatch.setattr(kind, '_split_generators', lambda *a: splits)
  builder = tensorflow_datasets.builder(name, data_dir=data_dir, file_format='array_record')
  builder.download_and_prepare()
  return builder


def in_order(name, part, images):
  """Returns the labels of images that TFDS has shuffled, and the images that are missing."""
  content, files = fake(name), cifar.FILES[name]
  known = {
    image.tobytes(): label for n in getattr(files, part) for image, label in zip(*content[n])
  }
  return [known.pop(image.tobytes()) for image in images], known


@pytest.mark.parametrize('name', PARTS)
def test_prepared_by_tfds(tmp_path, monkeypatch, name):
  data_dir = tmp_path / 'tfds'
  prepare(monkeypatch, data_dir, name)
  load = lambda: loading.load(name, path=str(data_dir), cache=tmp_path / 'cache')
  data = load()
  for part in 'train', 'test':
    labels, left = in_order(name, part, getattr(data, f'{part}_images'))
    assert not left and list(getattr(data, f'{part}_labels')) == labels
  monkeypatch.setattr(tfds, '_read_split', None)  # the second time, the cache holds the arrays
  np.testing.assert_array_equal(load().train_images, data.train_images)


def test_prepared_as_tfrecords(tmp_path, monkeypatch):
  """Without --file_format=array_record, `tfds build` leaves such a folder."""
  folder = prepare(monkeypatch, tmp_path / 'tfds', 'cifar10').data_path
  for part in 'train', 'test':
    old = folder / f'cifar10-{part}.array_record-00000-of-00001'
    old.rename(folder / old.name.replace('array_record', 'tfrecord'))
  info = folder / 'dataset_info.json'
  info.write_text(info.read_text().replace('array_record', 'tfrecord'))
  words = 'is prepared in .* as tfrecord, not as array_record: .*--file_format=array_record'
  with pytest.raises(FileNotFoundError, match=words):
    loading.load('cifar10', path=str(tmp_path / 'tfds'), cache=tmp_path / 'cache')


def test_mocked_tfds(tmp_path):
  import tensorflow_datasets

  for size in 8, 5:
    with tensorflow_datasets.testing.mock_data(num_examples=size):
      data = loading.load('cifar10', cache=tmp_path)
    assert data.train_images.shape == data.test_images.shape == (size, 32, 32, 3)
    assert data.train_labels.dtype == np.int32 and data.train_labels.shape == (size,)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', PARTS)
def test_not_prepared_fails_at_once(tmp_path, monkeypatch, name):
  import socket

  def unplugged(*args, **kwargs):
    raise AssertionError('the network was used')

  monkeypatch.setattr(socket.socket, 'connect', unplugged)
  monkeypatch.setattr(socket, 'getaddrinfo', unplugged)
  (tmp_path / name).mkdir()
  words = rf'{name} is not prepared in .*stretchnas_jax\[tf\].*tfds build {name} .*data.path'
  with pytest.raises(FileNotFoundError, match=words):
    loading.load(name, path=str(tmp_path), cache=tmp_path / 'cache')


def test_importing_the_loader_imports_nothing_slow():
  import subprocess

  code = (
    'import sys, stretchnas_jax.data.datasets.loading; '
    'print([m for m in ("tensorflow_datasets", "tensorflow", "sklearn") if m in sys.modules])'
  )
  out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert out.stdout.strip() == '[]'
