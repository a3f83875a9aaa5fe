"""Tests of the limits of images: pixels, bytes, and memory over all threads."""

import contextlib
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from experiments.reliability import corpus, hostile_images
from stretchnas_jax import config as config_lib
from stretchnas_jax.data.batches import crops, opening
from stretchnas_jax.data.datasets import decoding, image_limits, images, listing, survey
from stretchnas_jax.data.datasets.encoded_images import Files

pytestmark = pytest.mark.filterwarnings('ignore')  # Pillow warns about large images


@pytest.fixture(autouse=True)
def limit(monkeypatch):
  """Puts Pillow's limit back after each test, as it holds for the whole process."""
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)
  monkeypatch.setattr(image_limits, '_before', [])


def save(folder, width, height, mode='RGB', kind='png', **options):
  rng = np.random.default_rng(0)
  channels = len(Image.new(mode, (1, 1)).getbands())
  noise = rng.integers(0, 256, (height, width, channels), np.uint8)
  image = Image.fromarray(noise[..., 0] if channels == 1 else noise, mode if channels > 1 else None)
  image.save(folder / f'x.{kind}', **options)
  return folder / f'x.{kind}'


# ---- one image -----------------------------------------------------------------------------------


@pytest.mark.parametrize('width, height', [(101, 1), (150, 1), (20, 11), (300, 300)])
def test_an_image_with_too_many_pixels_names_the_field(tmp_path, width, height):
  file = save(tmp_path, width, height)
  assert images.read(file, 8).shape == (8, 8, 3)
  image_limits.set_most_pixels(100)
  for read in (
    lambda: images.read(file, 8),
    lambda: crops.read_center(file, 8, name=file),
    lambda: crops.read_random(
      file, np.full(41, 0.5), 8, name=str(file), scale=(0.1, 1.0), ratio=(1.0, 1.0), flip=False
    ),
  ):
    with pytest.raises(ValueError, match='more than 100 pixels: data.max_pixels can allow more'):
      read()


def test_the_field_reaches_pillow(tmp_path):
  config = config_lib.search_config()
  config.data.name, config.data.image_size = 'digits', 8
  before = Image.MAX_IMAGE_PIXELS
  opening.load_dataset(config.data)
  assert before == image_limits.most_pixels() == 89_478_485
  config.data.max_pixels = 400_000_000
  opening.load_dataset(config.data)
  assert image_limits.most_pixels() == 400_000_000
  (tmp_path / 'x.png').write_bytes(corpus.bomb(19_000, 20_000))
  with images.opened(tmp_path / 'x.png', 'x') as image:
    assert image.size == (19_000, 20_000)
  config.data.max_pixels = 300_000_000
  opening.load_dataset(config.data)
  config.data.max_pixels = None  # another run of this process
  for own in before, 1000:
    opening.load_dataset(config.data)
    assert image_limits.most_pixels() == own
    Image.MAX_IMAGE_PIXELS = 1000  # somebody's own limit stays


@pytest.mark.parametrize('kind', ['jp2', 'webp', 'avif'])
def test_formats_whose_decoders_need_more_memory_count_twice(tmp_path, kind):
  file = save(tmp_path, 20, 10, kind=kind)
  image_limits.set_most_pixels(400)
  assert images.read(file, 8).shape == (8, 8, 3)
  image_limits.set_most_pixels(399)
  with pytest.raises(ValueError, match=r'its 200 pixels count twice, .*, and 399 are allowed'):
    images.read(file, 8)
  image_limits.set_most_pixels(199)
  with pytest.raises(ValueError, match='it has more than 199 pixels'):
    images.read(file, 8)


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
  """Pillow would read a file that begins like WebP as a whole."""
  with open(tmp_path / 'x.webp', 'wb') as file:
    file.write(b'RIFF\xff\xff\xff\x7fWEBPVP8 ')
    file.truncate(2**36)
  with pytest.raises(ValueError, match='its 68719476736 bytes are too many for 89478485 pixels'):
    images.read(tmp_path / 'x.webp', 8)


def test_a_long_image_is_not_blown_up(tmp_path):
  """Its shorter side would become 256 pixels, and the longer one 25,600,000."""
  for size in (100_000, 1), (1, 100_000):
    file = save(tmp_path, *size, mode='L')
    with Image.open(file) as image:
      middle = image.crop([side // 2 - (side > 1) * 8 for side in size] + [
        side // 2 + (8 if side > 1 else 1) for side in size])  # fmt: skip
    found = crops.read_center(file, 224, name='x')
    assert found.shape == (224, 224, 3)
    np.testing.assert_allclose(found, crops.center(middle, 224), atol=40)
  (tmp_path / 'x.png').write_bytes(hostile_images.png(2**20 + 1, 1))
  with pytest.raises(ValueError, match='it has a side of more than 1048576 pixels'):
    images.read(tmp_path / 'x.png', 8)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'L', 'CMYK', 'HSV'])
@pytest.mark.parametrize('width, height', [(7, 40), (200, 3)])
def test_strips_change_no_pixel(monkeypatch, mode, width, height):
  rng = np.random.default_rng(1)
  bands = [
    Image.fromarray(rng.integers(0, 256, (height, width), np.uint8))
    for _ in Image.new(mode, (1, 1)).getbands()
  ]
  image = Image.merge(mode, bands)
  whole = np.asarray(images.to_rgb(image))
  monkeypatch.setattr(images, '_STRIP', 30)
  np.testing.assert_array_equal(images.to_rgb(image), whole)


def test_strips_of_deep_and_palette_images(monkeypatch):
  rng = np.random.default_rng(2)
  deep = Image.fromarray(rng.integers(0, 65536, (30, 20), np.uint16))
  palette = Image.fromarray(rng.integers(0, 256, (30, 20, 3), np.uint8)).convert('P')
  palette.info['transparency'] = bytes(range(200))
  before = [np.asarray(images.to_rgb(image)) for image in (deep, palette)]
  monkeypatch.setattr(images, '_STRIP', 45)
  for image, whole in zip((deep, palette), before):
    np.testing.assert_array_equal(images.to_rgb(image), whole)


def test_metadata_that_unpacks_to_much_is_refused(tmp_path):
  small = save(tmp_path, 4, 4).read_bytes()
  text = corpus.chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(2**26)))
  (tmp_path / 'x.png').write_bytes(small[:33] + text + small[33:])
  with pytest.raises(ValueError, match='x.png is not a readable image'):
    images.read(tmp_path / 'x.png', 8)


# ---- all images ----------------------------------------------------------------------------------


def test_threads_share_the_budget():
  budget, now, most = image_limits.Budget(100), 0, 0
  lock = threading.Lock()

  def work(amount):
    nonlocal now, most
    with budget.take(amount):
      with lock:
        now += amount
        most = max(most, now)
      time.sleep(0.002)
      with lock:
        now -= amount

  threads = [threading.Thread(target=work, args=(amount,)) for amount in [40, 30, 60, 99, 1] * 4]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert now == 0 and 60 <= most <= 100


def test_an_amount_above_the_budget_waits_for_all_of_it_and_an_error_gives_it_back():
  budget = image_limits.Budget(100)
  for _ in range(2):
    with pytest.raises(RuntimeError), budget.take(1000):
      raise RuntimeError
  with budget.take(100):
    pass


def test_large_images_are_not_decoded_side_by_side(tmp_path, monkeypatch):
  """Eight threads, and a budget for one image and a half."""
  file = save(tmp_path, 40, 40)
  monkeypatch.setattr(image_limits, '_budget', image_limits.Budget(int(1.5 * 12 * 1600)))
  now, most, lock, convert = 0, 0, threading.Lock(), images.to_rgb

  def slow(*args):
    nonlocal now, most
    with lock:
      now, most = now + 1, max(most, now + 1)
    time.sleep(0.005)
    with lock:
      now -= 1
    return convert(*args)

  monkeypatch.setattr(images, 'to_rgb', slow)
  decoder = decoding.Decoder(Files.of(str(tmp_path), [(file.name, 0)] * 24), workers=8)
  read = lambda place, file, name: images.read(file, 8)
  pixels, readable = decoder.start(np.arange(24), read, (8, 8)).result()
  decoder.close()
  assert readable.all() and most == 1 and pixels.any()


def test_every_image_is_decoded_inside_the_budget(tmp_path, monkeypatch):
  """Reading the EXIF data of a PNG file decodes it; so do the extremes of 16 bits."""
  inside, decoded, load = [False], [], PngImagePlugin.PngImageFile.load

  @contextlib.contextmanager
  def room(image):
    inside[0] = True
    yield
    inside[0] = False

  def noted(image):
    decoded.extend([inside[0]] * bool(image.tile))
    return load(image)

  monkeypatch.setattr(image_limits, 'room', room)
  monkeypatch.setattr(PngImagePlugin.PngImageFile, 'load', noted)
  file = save(tmp_path, 20, 10)
  crops.read_random(
    file, np.full(41, 0.5), 8, name='x', scale=(0.1, 1.0), ratio=(1.0, 1.0), flip=False
  )
  Image.fromarray(np.full((9, 9), 65535, np.uint16)).save(file)
  found = listing.Listing(str(tmp_path), ('a',), {'train': [(file.name, 0)]}, {})
  assert survey.survey(found, image_size=8).values == (65535, 65535)
  assert decoded == [True, True]
