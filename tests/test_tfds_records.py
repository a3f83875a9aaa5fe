"""Tests of records of TFDS: a damaged one is named, whatever error its library raises."""

import numpy as np
import pytest

from stretchnas_jax.data.datasets import tfds, tfds_sets


class Source:
  """Records whose third one is unlike the others."""

  def __init__(self, third):
    self._third = third

  def __len__(self):
    return 4

  def __getitem__(self, i):
    if i == 2 and isinstance(self._third, Exception):
      raise self._third
    return {'image': self._third if i == 2 else np.zeros((4, 5, 3), np.uint8), 'label': i}

  def __getitems__(self, numbers):
    return [self[i] for i in numbers]


@pytest.mark.parametrize(
  'third, words',
  [
    (RuntimeError('corrupt\nrecord ' * 99), 'corrupt record corrupt record'),
    (KeyError('image'), "'image'"),
    (IndexError(), 'IndexError'),
    (np.zeros((4, 6, 3), np.uint8), r'its shape is \(4, 6, 3\), not \(4, 5, 3\)'),
    (np.zeros((4, 5, 3)), 'its pixels are float64: set data.range'),
  ],
)
def test_a_damaged_record_is_named(third, words):
  with pytest.raises(ValueError, match=f'^record 2 of the part train: {words}') as caught:
    tfds._read_split('train', Source(third), tfds_sets.Keys('image', 'label'))
  assert len(str(caught.value)) < 300 and '\n' not in str(caught.value)


def test_whole_records_are_read():
  third = np.full((4, 5, 3), 7, np.uint8)
  found = tfds._read_split('train', Source(third), tfds_sets.Keys('image', 'label'))
  assert found['train_images'].shape == (4, 4, 5, 3) and found['train_images'][2].min() == 7
  assert found['train_labels'].tolist() == [0, 1, 2, 3]
