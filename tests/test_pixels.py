"""Tests of the pixels of own images: more than 8 bits, grey or coloured, in memory and streamed."""

import contextlib
import struct
import zlib

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stretchnas_jax import config as config_lib
from stretchnas_jax.data.batches import opening, stream_batches
from stretchnas_jax.data.datasets import encoded, folder, images, loading, pixels

RAMP = np.arange(16 * 16).reshape(16, 16)


@pytest.fixture
def write(tmp_path):
  """Writes two classes of two images each; returns their folder."""

  def write(*arrays, ending='png'):
    for i in range(4):
      file = tmp_path / 'set' / 'ab'[i % 2] / f'{i}.{ending}'
      file.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(arrays[i % len(arrays)]).save(file)
    return tmp_path / 'set'

  return write


@pytest.fixture
def load(tmp_path):
  return lambda path, **options: loading.load(
    'folder', path=str(path), image_size=16, cache=tmp_path / 'cache', **options
  )


def stream(path, tmp_path, value_range=None):
  data = encoded.load('folder', path=str(path))
  return encoded.with_pixels(data, 16, value_range, tmp_path / 'cache')


# ---- images of more than 8 bits ------------------------------------------------------------------


def test_images_that_use_few_of_their_16_bits_need_a_range(write, load, tmp_path):
  path = write((RAMP * 16).astype(np.uint16))  # 0 to 4080
  words = 'no value above 4080, .* set data.range .* for example 0,4095, or to 0,65535'
  with pytest.raises(ValueError, match=words):
    load(path)
  with pytest.raises(ValueError, match=words):
    stream(path, tmp_path)
  data = load(path, value_range=(0, 4095))
  np.testing.assert_array_equal(data.train_images[0, ..., 0], np.rint(RAMP * 16 * 255 / 4095))
  assert len(np.unique(data.train_images)) == 255 and data.train_images.shape[-1] == 1
  assert len(np.unique(load(path, value_range=(0, 65535)).train_images)) == 17


@pytest.mark.parametrize('dtype', ['<u2', '>u2'])
def test_either_order_of_the_two_bytes(write, load, dtype):
  path = write((RAMP * 16).astype(dtype), ending='tif')
  with pytest.raises(ValueError, match='no value above 4080'):
    load(path)
  assert len(np.unique(load(path, value_range=(0, 4080)).train_images)) == 256


def test_images_that_use_their_16_bits_need_none(write, load, tmp_path):
  path = write((RAMP * 257).astype(np.uint16))
  np.testing.assert_array_equal(load(path).train_images[0, ..., 0], RAMP)
  assert stream(path, tmp_path).grey


def test_floating_point_images_need_a_range(write, load):
  path = write((RAMP / 255).astype(np.float32), ending='tif')
  with pytest.raises(ValueError, match='floating-point .* data.range .* for example 0,1'):
    load(path)
  np.testing.assert_array_equal(load(path, value_range=(0, 1)).train_images[0, ..., 0], RAMP)
  with pytest.raises(ValueError, match='from 0 to 1, outside of data.range 0,0.5'):
    load(path, value_range=(0, 0.5))


def test_pixels_that_are_no_numbers_are_named(write, load):
  values = (RAMP / 255).astype(np.float32)
  values[3, 3] = np.nan
  with pytest.raises(ValueError, match='NaN or infinite'):
    load(write(values, ending='tif'), value_range=(0, 1))


def save_deep_colors(file, values):
  """Writes a PNG of 16 bits in three channels, which Pillow cannot write."""

  def chunk(name, data):
    body = name + data
    return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

  height, width = values.shape[:2]
  rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
  header = struct.pack('>IIBBBBB', width, height, 16, 2, 0, 0, 0)
  parts = chunk(b'IHDR', header), chunk(b'IDAT', zlib.compress(rows)), chunk(b'IEND', b'')
  file.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(parts))


def test_a_bitmap_of_16_bits_for_all_channels_together_is_not_deep(write, load, tmp_path):
  path = write(np.zeros((4, 4, 3), np.uint8))
  green = struct.pack('<16H', *[0x07E0] * 16)  # five bits of red, six of green, five of blue
  masks = struct.pack('<3I', 0xF800, 0x07E0, 0x001F)
  head = struct.pack('<3I2H6I', 40, 4, 4, 1, 16, 3, len(green), 0, 0, 0, 0)
  start = struct.pack('<2s3I', b'BM', 66 + len(green), 0, 66)
  (path / 'a' / '0.png').write_bytes(start + head + masks + green)
  with Image.open(path / 'a' / '0.png') as image:
    assert not images.has_16_bits(image)
  assert (load(path, value_range=(0, 4095)).train_images[0] == [0, 255, 0]).all()


def test_coloured_images_of_16_bits(write, load):
  path = write(RAMP.astype(np.uint8))
  deep = np.stack([RAMP * 16, RAMP * 8, RAMP], axis=-1)
  for file in path.rglob('*.png'):
    save_deep_colors(file, deep)
  with pytest.raises(ValueError, match='no value above 3855, .* data.range'):
    load(path)
  with pytest.raises(ValueError, match='coloured and has 16 bits, .* save it with 8 bits'):
    load(path, value_range=(0, 4095))
  for file in path.rglob('*.png'):
    save_deep_colors(file, deep * 16)
  np.testing.assert_array_equal(load(path).train_images[0, ..., 0], RAMP * 256 // 256)


@given(st.integers(0, 2**16 - 2), st.integers(1, 2**16 - 1), st.integers(0, 2**32 - 1))
def test_the_ends_of_a_range_are_black_and_white(low, width, seed):
  values = np.random.default_rng(seed).integers(low, low + width + 1, 50)
  values[:2] = low, low + width
  found = images.to_bytes(values, (low, low + width))
  np.testing.assert_array_equal(found, np.rint((values - low) * (255 / width)))
  assert (found[0], found[1]) == (0, 255)


# ---- grey or coloured ----------------------------------------------------------------------------

GREY = RAMP.astype(np.uint8)
GREY_AS_COLOR = np.repeat(GREY[..., None], 3, axis=-1)
COLOR = GREY_AS_COLOR // np.array([1, 2, 3], np.uint8)


@pytest.mark.parametrize(
  'arrays, channels',
  [([GREY], 1), ([GREY, GREY_AS_COLOR], 1), ([COLOR], 3), ([GREY, COLOR], 3), ([COLOR, GREY], 3)],
)
def test_memory_and_stream_agree_on_grey(write, load, tmp_path, arrays, channels):
  path = write(*arrays)
  assert load(path).train_images.shape[-1] == channels
  data = stream(path, tmp_path)
  assert data.grey == (channels == 1)
  config = config_lib.train_config()
  values = {
    'name': 'folder', 'path': str(path), 'stream': True, 'image_size': 16, 'jitter': 0.5,
    'cutout': 4,
  }  # fmt: skip
  config.data.update(values)
  config.train.batch_size = 2
  with contextlib.closing(opening.open_training(config, data)) as feeds:
    assert feeds.image_shape == (16, 16, channels) and feeds.mean.shape == (channels,)
    batch = feeds.train.chunk(0, 0, 1, 1)['train']
    assert batch.images.shape == (1, 2, 16, 16, channels)


def test_a_grey_stream_is_read_once_and_the_answer_is_kept(write, tmp_path, monkeypatch):
  path = write(GREY)
  assert stream(path, tmp_path).grey
  monkeypatch.setattr(pixels, 'all_grey', lambda *args, most=None: most == 1 or 1 / 0)
  assert stream(path, tmp_path).grey


def test_a_grey_stream_keeps_the_changes_of_brightness(key):
  from stretchnas_jax.data.batches import color_jitter, streaming

  options = stream_batches.Options(image_size=16, workers=1).grey()
  assert options.image_shape == (16, 16, 1) and len(options.std) == 1
  feed = streaming.StreamFeed.__new__(streaming.StreamFeed)
  feed.options = options
  batch = stream_batches.Pixels(np.tile(GREY[None, ..., None], (4, 1, 1, 1)), np.zeros(4, np.int32))
  found = feed.examples((), batch, key, np.arange(4)).images
  tripled = np.repeat(batch.images, 3, axis=-1)
  wanted = color_jitter.color_jitter(key, tripled, np.arange(4), options.jitter)
  np.testing.assert_allclose(wanted[..., 0], wanted[..., 2], atol=1e-5)
  scaled = np.asarray(found) * options.std[0] + options.mean[0]
  np.testing.assert_allclose(scaled[..., 0], wanted[..., 0], atol=1e-5)


def test_predictions_read_files_in_the_range_of_the_run(write, load):
  from stretchnas_jax.runs import predictions

  path = write((RAMP * 16).astype(np.uint16))
  data = load(path, value_range=(0, 4095))
  seen = []

  def apply_fn(variables, batch):
    seen.append(np.asarray(batch))
    return np.zeros((len(batch), 2), np.float32)

  info = {
    'class_names': ('a', 'b'), 'image_shape': (16, 16, 1), 'stream': False,
    'config': {'data': {'range': [0, 4095]}},
  }  # fmt: skip
  files = [file for file, _ in folder.find(path).paths('train')]
  with jax.disable_jit():
    predictions.predict((apply_fn, {}, info), files)
  np.testing.assert_array_equal(seen[0], data.train_images)
