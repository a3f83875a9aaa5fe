"""Evaluations by the moments of each batch see their images in a fixed shuffled order."""

import contextlib

import jax
import numpy as np
import pytest
from helpers import tiny_search
from image_streams import PLAIN, load, make_tree
from PIL import Image

import stretchnas_jax
from stretchnas_jax.data.batches import in_memory, order, streaming
from stretchnas_jax.data.datasets import loading
from stretchnas_jax.runs import json_files, supernet_accuracy

pytestmark = pytest.mark.usefixtures('shared_programs')


@pytest.mark.parametrize(
  'total, batch, count', [(10, 4, None), (8, 4, 3), (3, 4, None), (9, 4, 20)]
)
def test_mixed_batches_are_full_and_each_image_counts_once(total, batch, count):
  places, valid = order.mixed_places(total, batch, count)
  used = min(total, count or total)
  assert places.shape == valid.shape == (-(-used // batch), batch)
  assert len(set(places[valid].tolist())) == valid.sum() == used
  first = places.reshape(-1)[:used]
  np.testing.assert_array_equal(places.reshape(-1), np.resize(first, places.size))
  assert set(first.tolist()) <= set(range(total))
  np.testing.assert_array_equal(places, order.mixed_places(total, batch, count)[0])


def test_every_mixed_batch_of_sorted_images_has_nearly_all_classes():
  digits = by_class(loading.load('digits', image_size=8))
  supply = in_memory.ArraySupply(digits, 60, seed=0)
  plain = supply.evaluation('train')
  mixed, part = plain.mixed(), plain.mixed(100)
  classes = lambda feed: [
    len(set(digits.train_labels[row].tolist())) for rows, _ in feed.chunks(9) for row in rows
  ]
  assert max(classes(plain)[:-1]) <= 2 and min(classes(mixed)[:24]) >= 8
  assert (plain.count, mixed.count, part.count) == (1437, 1437, 100)
  counted = np.concatenate([rows[valid > 0] for rows, valid in mixed.chunks(9)])
  assert sorted(counted.tolist()) == list(range(1437))
  (rows, valid), *_ = plain.chunks(50)  # the feed itself stays as it was
  np.testing.assert_array_equal(rows[valid > 0], np.arange(1437))


def test_a_mixed_stream_has_the_images_of_the_stream(tmp_path):
  noisy = load(make_tree(tmp_path)).train
  numbers = np.arange(2, 9)
  with contextlib.closing(streaming.StreamEvaluation(noisy, numbers, 4, PLAIN)) as feed:
    ((pixels, valid),) = feed.mixed().chunks(2)
    ((plain, also),) = feed.chunks(2)
  assert valid.sum() == also.sum() == 7 and not valid[1, 3]
  places, _ = order.mixed_places(7, 4)
  for image, place in zip(pixels.images.reshape(8, -1), places.reshape(-1)):
    np.testing.assert_array_equal(image, plain.images.reshape(8, -1)[place])
  joined = []
  for i in range(2):
    options = PLAIN._replace(process=(i, 2))
    with contextlib.closing(streaming.StreamEvaluation(noisy, numbers, 4, options)) as feed:
      joined += feed.mixed().chunks(2)
  both = jax.tree.map(lambda *rows: np.concatenate(rows, axis=1), *joined)
  jax.tree.map(np.testing.assert_array_equal, both, (pixels, valid))


@pytest.mark.long
def test_a_cell_is_measured_on_batches_of_all_classes_of_a_folder(tmp_path):
  digits = loading.load('digits', image_size=8)
  for i in range(240):
    folder = tmp_path / 'images' / str(digits.train_labels[i])
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(digits.train_images[i, ..., 0]).save(folder / f'{i}.png')
  fields = {
    'data.name': 'folder', 'data.path': str(tmp_path / 'images'), 'data.fraction': 1.0,
    'data.split': 'two_way', 'log.cell_every': 1, 'search.epochs': 1,
  }  # fmt: skip
  stretchnas_jax.run_search(tiny_search(**fields), tmp_path / 'run')
  (line,) = json_files.read_lines(tmp_path / 'run' / 'metrics.jsonl')
  with supernet_accuracy.opened(tmp_path / 'run') as net:
    assert net.of(net.mixture_of(net.cell())).accuracy == line['cell_accuracy']
    labels = [net.data.labels[row] for rows, _ in net.feed.chunks(99) for row in rows]
  assert min(len(set(np.asarray(row).tolist())) for row in labels) >= 3  # of eight images


def by_class(dataset):
  """Returns a data set whose training images come class by class, as those of a folder do."""
  rows = np.argsort(dataset.train_labels, kind='stable')
  return dataset._replace(
    train_images=dataset.train_images[rows], train_labels=dataset.train_labels[rows]
  )
