"""Compares crops of image files with scaling in float64 from the same random numbers."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from stretchnas_jax.data.batches import crops

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
MIRRORED, STRAIGHT = 0.2, 0.7


def noise(width, height, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels, **options):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG', **options)
  return file


def draws_of(*first, flip=STRAIGHT):
  """Returns random numbers whose first box is `first`: share of area, ratio, column, row."""
  return np.array([*first, *[0.5] * (crops.NUM_DRAWS - 5), flip])


def scaled(pixels, box, width, height):
  """Scales a box of an image with a triangular filter as wide as a new pixel or an old one."""
  left, top, box_width, box_height = box
  rows = triangles(pixels.shape[0], top, box_height, height)
  columns = triangles(pixels.shape[1], left, box_width, width)
  return np.einsum('ar,bc,rcx->abx', rows, columns, pixels.astype(float), optimize=True)


def triangles(total, start, length, size):
  step = length / size
  centers = start + (np.arange(size) + 0.5) * step
  distance = np.abs(np.arange(total) + 0.5 - centers[:, None])
  heights = np.maximum(1 - distance / max(step, 1), 0)
  return heights / heights.sum(axis=1, keepdims=True)


def expected_box(draws, width, height):
  """Returns the box of Szegedy et al. 2015, computed as torchvision does."""
  for i in range(0, 40, 4):
    area = width * height * (0.08 + draws[i] * 0.92)
    ratio = math.exp(math.log(3 / 4) + draws[i + 1] * (math.log(4 / 3) - math.log(3 / 4)))
    w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      left, top = (
        math.floor(draws[i + 2] * (width - w + 1)),
        math.floor(draws[i + 3] * (height - h + 1)),
      )
      return left, top, w, h
  if width / height < 3 / 4:
    w, h = width, round(width / (3 / 4))
  elif width / height > 4 / 3:
    w, h = round(height * (4 / 3)), height
  else:
    w, h = width, height
  return (width - w) // 2, (height - h) // 2, w, h


@pytest.mark.parametrize(
  'width, height', [(500, 375), (40, 90), (300, 20), (7, 200), (1, 1), (9, 8)]
)
def test_a_box_is_chosen_as_in_torchvision(width, height):
  for draws in crops.random_numbers(50, seed=1, stream='train', epoch=0, step=0):
    box = crops.random_box(draws, width, height, scale=SCALE, ratio=RATIO)
    assert box == expected_box(draws, width, height)
    assert box.left >= 0 and box.left + box.width <= width and box.width > 0
    assert box.top >= 0 and box.top + box.height <= height and box.height > 0


def test_no_box_fits_into_a_strip():
  box = crops.random_box(draws_of(1, 0.5, 0, 0), 300, 30, scale=(0.5, 1.0), ratio=RATIO)
  assert box == (130, 0, 40, 30)
  box = crops.random_box(draws_of(1, 0.5, 0, 0), 30, 300, scale=(0.5, 1.0), ratio=RATIO)
  assert box == (0, 130, 30, 40)


def test_boxes_cover_their_ranges_evenly():
  draws = np.concatenate(
    [crops.random_numbers(500, seed=0, stream='train', epoch=0, step=step) for step in range(4)]
  )
  boxes = np.array([crops.random_box(d, 1000, 1000, scale=SCALE, ratio=RATIO) for d in draws])
  left, top, width, height = boxes.T
  shares, ratios = width * height / 1e6, np.log(width / height)
  assert 0.079 < shares.min() < 0.085 and 0.95 < shares.max() <= 1
  assert -0.2895 < ratios.min() < -0.28 and 0.28 < ratios.max() < 0.2895
  assert abs(ratios.mean()) < 0.02
  # Every ratio fits up to 3/4 of the area, so those shares are uniform.
  counts = np.histogram(shares, bins=5, range=(0.08, 0.75))[0]
  np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.04)
  for first, size in (left, width), (top, height):
    places = first[size < 900] / (1000 - size[size < 900])
    np.testing.assert_allclose(np.histogram(places, bins=4)[0] / len(places), 0.25, atol=0.05)
  np.testing.assert_allclose((draws[:, -1] < 0.5).mean(), 0.5, atol=0.04)


def test_random_numbers_depend_on_each_argument():
  base = {'seed': 0, 'stream': 'train', 'epoch': 1, 'step': 2}
  first = crops.random_numbers(3, **base)
  assert first.shape == (3, crops.NUM_DRAWS) and len(np.unique(first)) == first.size
  np.testing.assert_array_equal(first, crops.random_numbers(3, **base))
  for change in {'seed': 1}, {'stream': 'val_alpha'}, {'epoch': 2}, {'step': 1}:
    assert not np.isin(crops.random_numbers(3, **base | change), first).any()


@pytest.mark.parametrize('size', [6, 32])
@pytest.mark.parametrize('draws', [(0.3, 0.2, 0.9, 0.1), (1.0, 0.5, 0, 0), (0.0, 0.9, 0.5, 0.5)])
@pytest.mark.parametrize('flip', [MIRRORED, STRAIGHT])
def test_a_random_crop_is_the_scaled_box(size, draws, flip):
  pixels, draws = noise(40, 30), draws_of(*draws, flip=flip)
  got = crops.read_random(png(pixels), draws, size, name='x', scale=SCALE, ratio=RATIO, flip=True)
  wanted = scaled(pixels, expected_box(draws, 40, 30), size, size)
  assert got.shape == (size, size, 3) and got.dtype == np.uint8
  np.testing.assert_allclose(got, wanted[:, ::-1] if flip == MIRRORED else wanted, atol=1.01)


def test_flip_can_be_turned_off():
  read = lambda flip: crops.read_random(
    png(noise(9, 9)), draws_of(0.5, 0.5, 0, 0, flip=MIRRORED), 4, name='x', scale=SCALE,
    ratio=RATIO, flip=flip,
  )  # fmt: skip
  np.testing.assert_array_equal(read(True)[:, ::-1], read(False))


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])  # of a TIFF Pillow gives the size upright
def test_a_photograph_is_turned_upright(kind):
  pixels, exif, lying = noise(20, 40), Image.Exif(), io.BytesIO()
  exif[0x0112] = 6  # "turn me clockwise"
  Image.fromarray(np.rot90(pixels)).save(lying, kind, exif=exif)
  options = {'name': 'x', 'scale': SCALE, 'ratio': RATIO, 'flip': True}
  for draws in draws_of(0.4, 0.7, 0.9, 0.8), draws_of(0.9, 0.5, 0.9, 0.9):
    np.testing.assert_array_equal(
      crops.read_random(lying, draws, 8, **options),
      crops.read_random(png(pixels), draws, 8, **options),
    )
  np.testing.assert_array_equal(
    crops.read_center(lying, 8, name='x'), crops.read_center(png(pixels), 8, name='x')
  )


@pytest.fixture(scope='module')
def photograph():
  """Returns a JPEG of 803 x 601 with smooth colours, and its pixels at full size."""
  y, x = np.mgrid[:601, :803] / 60
  waves = np.stack([np.sin(x + y), np.cos(x - y / 2), np.sin(y + 1)], axis=-1)
  file = io.BytesIO()
  Image.fromarray(np.uint8(127 + 120 * waves)).save(file, 'JPEG', quality=95, subsampling=0)
  return file, np.asarray(Image.open(file))


@pytest.mark.parametrize('share, most', [(1.0, 8), (0.5, 8), (0.2, 4), (0.0, 2)])
def test_a_large_photograph_decoded_at_a_fraction_looks_the_same(photograph, share, most):
  file, pixels = photograph
  draws, size = draws_of(share, 0.45, 0.7, 0.3, flip=MIRRORED), 28
  box = expected_box(draws, 803, 601)
  got = crops.read_random(file, draws, size, name='x', scale=SCALE, ratio=RATIO, flip=True)
  wanted = scaled(pixels, box, size, size)[:, ::-1]
  np.testing.assert_allclose(got, wanted, atol=4)
  with Image.open(file) as image:
    factor = crops.draft(image, min(box[2:]) // (2 * size))
    assert factor == most and image.size == (-(-803 // most), -(-601 // most))


def test_a_photograph_of_moderate_size_is_decoded_at_full_size(photograph):
  file, pixels = photograph
  draws = draws_of(0.3, 0.5, 0.5, 0.5)
  got = crops.read_random(file, draws, 110, name='x', scale=SCALE, ratio=RATIO, flip=True)
  wanted = scaled(pixels, expected_box(draws, 803, 601), 110, 110)
  np.testing.assert_allclose(got, wanted, atol=1.01)


@pytest.mark.parametrize(
  'width, height, size, scaled_to',
  [
    (50, 30, 14, (26, 16)),
    (30, 51, 14, (16, 27)),
    (33, 33, 7, (8, 8)),
    (9, 12, 28, (32, 42)),
    (300, 256, 224, (300, 256)),
  ],
)
def test_the_centre(width, height, size, scaled_to):
  pixels = noise(width, height)
  got = crops.read_center(png(pixels), size, name='x')
  whole = scaled(pixels, (0, 0, width, height), *scaled_to)
  left, top = (round((side - size) / 2) for side in scaled_to)
  assert got.shape == (size, size, 3) and got.dtype == np.uint8
  np.testing.assert_allclose(got, whole[top : top + size, left : left + size], atol=1.01)


def test_a_truncated_file_is_named():
  file = io.BytesIO(png(noise(40, 40)).getvalue()[:-200])
  with pytest.raises(ValueError, match='the 5th is not a readable image .*truncated'):
    crops.read_center(file, 8, name='the 5th')
  with pytest.raises(ValueError, match='the 5th is not a readable image'):
    crops.read_random(
      file, draws_of(1, 0.5, 0, 0), 8, name='the 5th', scale=SCALE, ratio=RATIO, flip=True
    )
