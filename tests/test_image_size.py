"""Tests of images that are not square, from the config to the trained network."""

import contextlib

import numpy as np
import pytest
from helpers import POOL_SPACE, TINY_CELL, tiny_search, tiny_training
from jax import export as jax_export
from PIL import Image

import stretchnas_jax
from stretchnas_jax import config as config_lib
from stretchnas_jax.cli import command_line, config_flags
from stretchnas_jax.data.batches import crops, opening
from stretchnas_jax.data.datasets import folder as folder_lib
from stretchnas_jax.data.datasets import images, loading
from stretchnas_jax.networks import sizes
from stretchnas_jax.runs import build, json_files

SIZE = (8, 12)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Makes class folders with training and test images of many shapes."""
  path, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
  for part, count in ('train', 16), ('test', 4):
    for i in range(count):
      file = path / part / 'ab'[i % 2] / f'{i}.png'
      file.parent.mkdir(parents=True, exist_ok=True)
      pixels = random.integers(0, 128, (10 + i, 30 - i, 3), np.uint8) + np.uint8(100 * (i % 2))
      Image.fromarray(pixels).save(file)
  return path


def own(config, folder, **fields):
  values = {'name': 'folder', 'path': str(folder), 'image_size': SIZE, 'fraction': 1.0, **fields}
  config.data.update(values)
  return config


# ---- reading -------------------------------------------------------------------------------------


def test_a_whole_image_is_scaled_to_height_and_width(tmp_path):
  Image.new('RGB', (20, 10), (9, 8, 7)).save(tmp_path / 'x.png')
  found = images.read(tmp_path / 'x.png', (4, 6))
  assert found.shape == (4, 6, 3) and (found == (9, 8, 7)).all()
  np.testing.assert_array_equal(
    images.read(tmp_path / 'x.png', (5, 5)), images.read(tmp_path / 'x.png', 5)
  )
  exif = Image.Exif()
  exif[0x0112] = 6
  ramp = np.repeat(np.arange(0, 240, 10, np.uint8)[:, None], 12, axis=1)
  lying = np.ascontiguousarray(np.rot90(np.repeat(ramp[..., None], 3, axis=-1)))
  Image.fromarray(lying).save(tmp_path / 'lying.png', exif=exif)
  found = images.read(tmp_path / 'lying.png', (24, 12))
  np.testing.assert_array_equal(found[..., 0], ramp)


@pytest.mark.parametrize('width, height', [(40, 30), (30, 40), (200, 20), (12, 8), (3, 90)])
@pytest.mark.parametrize('size', [(8, 12), (12, 8), (8, 8)])
def test_the_centre_covers_the_whole_result(width, height, size):
  x = np.broadcast_to(np.linspace(0, 255, width, dtype=np.uint8)[None, :, None], (height, width, 3))
  found = crops.center(Image.fromarray(np.ascontiguousarray(x)), size)
  assert found.shape == (*size, 3)
  middle = found[:, size[1] // 2 - 1 : size[1] // 2 + 1].mean()
  assert abs(middle - 127.5) < 30
  assert (np.diff(found[0, :, 0].astype(int)) >= 0).all()


def test_random_crops_have_the_shape_of_the_result(monkeypatch, tmp_path):
  Image.new('RGB', (300, 300)).save(tmp_path / 'x.png')
  boxes, real = [], crops.random_box
  monkeypatch.setattr(
    crops, 'random_box', lambda *args, **more: boxes.append(real(*args, **more)) or boxes[-1]
  )
  for draws in crops.random_numbers(60, seed=0, stream='train', epoch=0, step=0):
    found = crops.read_random(
      tmp_path / 'x.png',
      draws,
      (8, 16),
      name='x',
      scale=(0.1, 0.3),
      ratio=(3 / 4, 4 / 3),
      flip=True,
    )
    assert found.shape == (8, 16, 3)
  ratios = [box.width / box.height / 2 for box in boxes]
  assert 0.73 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.36


# ---- configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize('text, value', [('12', 12), ('8,12', (8, 12)), ('(8, 12)', (8, 12))])
def test_the_command_line_takes_one_number_or_two(text, value):
  argv = [
    'search',
    '--config=folder',
    f'--config.data.image_size={text}',
    '--config.data.range=0,9',
  ]
  config = command_line.parse(argv, True, (), ()).config
  assert config.data.image_size == value and config.data.range == (0, 9)
  config_lib.validate(config, config_lib.search_config(), build.CHOICES)
  again = config_lib.updated(config_lib.search_config(), {'data': {'image_size': [8, 12]}})
  assert opening.image_size(again.data) == (8, 12)


@pytest.mark.parametrize('text', ['big', '8x12', ''])
def test_a_size_that_is_no_number_is_named(text):
  argv = ['search', '--config=folder', f'--config.data.image_size={text}']
  with pytest.raises(
    ValueError, match=f'image_size={text}: it must be a whole number of at least 8'
  ):
    command_line.parse(argv, True, (), ())


@pytest.mark.parametrize(
  'field, value, words',
  [
    ('image_size', 7, r'is 7; it must be a whole number of at least 8, or two of them: height and'),
    ('image_size', (8, 7), 'or two of them'),
    ('image_size', (8, 8, 3), 'or two of them'),
    ('image_size', 8.5, 'or two of them'),
    ('image_size', True, 'of type bool'),
    ('range', (1, 0), r'is \(1, 0\); it must be two numbers, the smaller one first'),
    ('range', (0, float('nan')), 'two numbers'),
    ('range', 255, 'two numbers'),
    ('range', (0, '9'), 'two numbers'),
  ],
)
def test_a_wrong_size_or_range_is_named(field, value, words):
  config = config_lib.search_config()
  config.data[field] = value
  with pytest.raises(ValueError, match=words):
    config_lib.validate(config, config_lib.search_config(), build.CHOICES)


def test_a_data_set_of_tfds_has_any_name():
  config = config_flags.load_config('folder')
  config.data.name = 'tfds:mnist'
  config_lib.validate(config, config_lib.search_config(), build.CHOICES)
  config.data.name = 'tfds:'
  with pytest.raises(ValueError, match="'tfds:'; it must be one of digits, folder, .*tfds:NAME"):
    config_lib.validate(config, config_lib.search_config(), build.CHOICES)


# ---- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('stream', [False, True])
def test_memory_and_streams_give_images_of_that_size(folder, stream):
  config = own(config_lib.train_config(), folder, stream=stream)
  config.train.batch_size = 4
  with contextlib.closing(opening.open_training(config)) as feeds:
    assert feeds.image_shape == (8, 12, 3)
    assert feeds.class_counts == {'train': (8, 8), 'test': (2, 2)}
    batch, _ = next(feeds.test.chunks(1))
    pictures = batch if stream else feeds.test.examples(feeds.test.data, batch[0])
    assert pictures.images.shape[-3:] == (8, 12, 3)


@pytest.mark.long
@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_a_search_of_images_that_are_not_square(folder, tmp_path, form):
  config = own(tiny_search(), folder)
  config.model.form, config.search.epochs, config.search.batch_size = form, 1, 4
  # Without convolutions it compiles fast; trainings and tests of the forms have these.
  own_space = {'space': POOL_SPACE}
  result = stretchnas_jax.run_search(config, tmp_path / 'run', parts=own_space)
  assert np.isfinite(result['val_accuracy'])
  kept = json_files.read_object(tmp_path / 'run' / 'run.json')['data']
  assert kept['image_shape'] == [8, 12, 3] and kept['name'] == 'folder'
  counts = [kept['parts'][part]['classes'] for part in ('train', 'val_alpha', 'val_beta')]
  assert [sum(count[name] for count in counts) for name in 'ab'] == [8, 8]
  loaded = stretchnas_jax.load_trained(tmp_path / 'run', parts=own_space)
  assert loaded[2]['image_shape'] == (8, 12, 3)


def test_a_training_of_images_that_are_not_square(folder, tmp_path):
  config = own(tiny_training(), folder, holdout=0.0)
  config.train.epochs, config.train.batch_size = 1, 8
  result = stretchnas_jax.run_train(config, tmp_path / 'run', TINY_CELL)
  loaded = stretchnas_jax.load_trained(tmp_path / 'run')
  data = loading.load('folder', path=str(folder), image_size=SIZE)
  files = [path for path, _ in folder_lib.find(folder).paths('test')]
  found = stretchnas_jax.predict(loaded, files)
  right = np.mean([name == 'ab'[label] for name, label in zip(found.classes, data.test_labels)])
  assert right == pytest.approx(result['test_accuracy'])
  stretchnas_jax.export_trained(tmp_path / 'run', tmp_path / 'net.stablehlo', platforms=['cpu'])
  network = jax_export.deserialize(bytearray((tmp_path / 'net.stablehlo').read_bytes()))
  assert network.call(data.test_images).shape == (4, 2)


def test_sizes_at_any_image_size():
  common = {'channels': 4, 'num_layers': 3, 'num_classes': 5}
  square, wide = (
    sizes.count_macs(TINY_CELL, **common, image_shape=(16, width, 3)) for width in (16, 32)
  )
  assert 1.9 * square < wide < 2 * square
