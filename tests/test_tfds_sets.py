"""Tests of data sets that TFDS has prepared, by any name."""

import io

import numpy as np
import pytest
from PIL import Image

from stretchnas_jax import config as config_lib
from stretchnas_jax.data.batches import opening
from stretchnas_jax.data.datasets import encoded, loading

tfds = pytest.importorskip('tensorflow_datasets')


class _Set(tfds.core.GeneratorBasedBuilder):
  """A small data set; `FEATURES` and `SPLITS` may be changed by a test."""

  VERSION = tfds.core.Version('1.0.0')
  SHAPE = (8, 8, 3)
  SPLITS = {'train': 6, 'validation': 4, 'test': 2}
  LABELLED = True

  def _info(self):
    features = {'image': tfds.features.Image(shape=self.SHAPE)}
    if self.LABELLED:
      features['label'] = tfds.features.ClassLabel(names=['ant', 'bee'])
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {name: self._examples(count) for name, count in self.SPLITS.items()}

  def _generate_examples(self, count):
    raise NotImplementedError

  def _examples(self, count):
    for i in range(count):
      height, width, channels = (side or 8 + i for side in self.SHAPE)
      pixels = np.full((height, width, channels), 10 * i, np.uint8)
      file = io.BytesIO()
      Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(file, 'PNG')
      file.seek(0)
      yield i, {'image': file, **({'label': i % 2} if self.LABELLED else {})}


class OwnSet(_Set):
  """Images of one size, with three parts."""


class GreySet(_Set):
  SHAPE, SPLITS = (8, 8, 1), {'train': 6}


class ManySizes(_Set):
  SHAPE, SPLITS = (None, None, 3), {'train': 6}


class NoLabel(_Set):
  LABELLED = False


@pytest.fixture
def prepared(tmp_path):
  """Returns a function that prepares a data set, and gives the folder of TFDS."""

  def prepared(kind):
    builder = kind(data_dir=tmp_path / 'tfds', file_format='array_record')
    builder.download_and_prepare()
    return str(tmp_path / 'tfds')

  return prepared


@pytest.mark.parametrize('stream', [False, True])
def test_any_name_is_loaded_with_its_parts(prepared, tmp_path, stream):
  path, cache = prepared(OwnSet), tmp_path / 'cache'
  module = encoded if stream else loading
  data = module.load('tfds:own_set', path=path, cache=cache)
  assert data.name == 'tfds:own_set' and data.class_names == ('ant', 'bee')
  counts = {'train': 6, 'val': 4, 'test': 2}
  for part, count in counts.items():
    found = data.part(part)
    labels = found.labels if stream else found[1]
    assert sorted(labels.tolist()) == sorted(i % 2 for i in range(count))
  assert not stream or data.grey is False


def test_a_training_validates_on_the_validation_split(prepared, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  config = config_lib.train_config()
  config.data.update({'name': 'tfds:own_set', 'path': prepared(OwnSet)})
  config.train.batch_size = 2
  feeds = opening.open_training(config)
  assert feeds.sizes == {'train': 6, 'val': 4, 'test': 2} and feeds.image_shape == (8, 8, 3)


def test_grey_images_and_images_of_many_sizes(prepared, tmp_path):
  path = prepared(GreySet)
  data = loading.load('tfds:grey_set', path=path, cache=tmp_path / 'cache')
  assert data.train_images.shape == (6, 8, 8, 1) and data.test_images is None
  assert encoded.load('tfds:grey_set', path=path, cache=tmp_path / 'cache').grey
  prepared(ManySizes)
  with pytest.raises(ValueError, match='tfds:many_sizes has images of many sizes: set data.image_'):
    loading.load('tfds:many_sizes', path=path, cache=tmp_path / 'cache')
  data = loading.load('tfds:many_sizes', path=path, image_size=(8, 10), cache=tmp_path / 'cache')
  assert data.train_images.shape == (6, 8, 10, 3)


@pytest.mark.parametrize('module', [loading, encoded])
def test_a_set_that_cannot_be_used_is_named(prepared, tmp_path, module, monkeypatch):
  import socket

  monkeypatch.setattr(socket.socket, 'connect', lambda *args: 1 / 0)
  path, cache = prepared(NoLabel), tmp_path / 'cache'
  with pytest.raises(ValueError, match='no_label has no label to learn from; its features are im'):
    module.load('tfds:no_label', path=path, cache=cache)
  with pytest.raises(ValueError, match='tfds:no_such_set is not a data set that TFDS knows'):
    module.load('tfds:no_such_set', path=path, cache=cache)
  with pytest.raises(FileNotFoundError, match='mnist is not prepared in .*tfds build mnist'):
    module.load('tfds:mnist', path=path, cache=cache)
