"""Tests of noise in the shape of a data set."""

import numpy as np
import pytest
from PIL import Image

from stretchnas_jax.data.datasets import loading, synthetic


@pytest.mark.parametrize('side', [None, 8])
def test_noise_has_the_shape_of_the_real_digits(side):
  ours, real = synthetic.dataset('digits', image_size=side), loading.load('digits', image_size=side)
  for part in ('train_images', 'train_labels', 'test_images', 'test_labels'):
    a, b = getattr(ours, part), getattr(real, part)
    assert (a.shape, a.dtype) == (b.shape, b.dtype), part
  assert len(ours.class_names) == len(real.class_names)
  assert ours.mean.shape == real.mean.shape == ours.std.shape


def test_noise_in_the_shape_of_cifar_needs_no_files():
  data = synthetic.dataset('cifar100', image_size=8)
  assert data.train_images.shape == (50_000, 8, 8, 3) and len(data.test_labels) == 10_000
  assert np.bincount(data.train_labels).tolist() == [500] * 100
  pixels = data.train_images / 255
  assert np.allclose(pixels.mean((0, 1, 2)), data.mean, atol=1e-3)
  assert np.allclose(pixels.std((0, 1, 2)), data.std, atol=2e-3)


def test_a_folder_is_counted_and_not_read(tmp_path):
  for part, number in (('train', 3), ('test', 2)):
    for name in ('cat', 'dog', 'eel'):
      (tmp_path / part / name).mkdir(parents=True)
      for i in range(number):
        (tmp_path / part / name / f'{i}.png').write_bytes(b'no image')
  with pytest.raises(Image.UnidentifiedImageError):
    Image.open(tmp_path / 'train' / 'cat' / '0.png')
  assert synthetic.size_of('folder', str(tmp_path)) == synthetic.Size(9, 6, 32, 3, 3)
  assert synthetic.size_of('folder') == synthetic.FOLDER


def test_an_unknown_data_set_is_named(tmp_path):
  with pytest.raises(ValueError, match="data.name is 'mnist'; it must be one of digits"):
    synthetic.size_of('mnist')
  with pytest.raises(FileNotFoundError, match='there is no such folder'):
    synthetic.size_of('folder', str(tmp_path / 'nowhere'))


def test_noise_in_the_shape_of_imagenet_is_one_file():
  data = synthetic.encoded_dataset('imagenet2012')
  assert len(data.train_labels) == 1_281_167 and len(data.test.labels) == 50_000
  assert len(data.class_names) == 1000 and data.train_labels.max() == 999
  with Image.open(data.train.open(7)) as image:
    assert image.format == 'JPEG' and image.size == synthetic.FILE
  assert 90_000 < len(data.train.file) < 140_000  # ImageNet's files have 110 kB on average
