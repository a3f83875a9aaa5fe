"""Tests of the parts of a search and of the batches of an epoch."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stretchnas_jax.data.batches import order
from stretchnas_jax.data.datasets import splits

LABELS = np.repeat([0, 1, 2, 3], [100, 60, 31, 7])


def counts(labels, part):
  return np.array([np.sum(labels[part] == c) for c in np.unique(labels)])


@given(
  sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
  fraction=st.floats(0.3, 1.0),
  split=st.sampled_from(['three_way', 'two_way']),
  seed=st.integers(0, 2**40),
)
def test_parts_are_disjoint_and_have_the_same_mix_of_classes(sizes, fraction, split, seed):
  labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
  num_parts = 3 if split == 'three_way' else 2
  assume(fraction * len(labels) > num_parts)
  parts = splits.search_parts(labels, split=split, fraction=fraction, seed=seed)
  distinct = list(parts)[:num_parts]
  together = np.concatenate(distinct)
  assert all(part.dtype == np.int32 for part in parts)
  assert len(np.unique(together)) == len(together)
  assert together.min() >= 0 and together.max() < len(labels)
  assert abs(len(together) - fraction * len(labels)) <= 0.5 + 1e-9
  assert np.ptp([len(part) for part in distinct]) <= 1
  per_class = np.array([counts(labels, part) for part in distinct])
  assert np.ptp(per_class, axis=0).max() <= 1
  assert np.abs(per_class.sum(axis=0) - fraction * np.array(sizes)).max() <= 1


def test_all_images_are_used():
  parts = splits.search_parts(LABELS, split='three_way')
  assert sorted(np.concatenate(parts)) == list(range(len(LABELS)))
  assert [len(part) for part in parts] == [66, 66, 66]


def test_two_way_shares_one_half():
  parts = splits.search_parts(LABELS, split='two_way')
  assert parts.val_beta is parts.val_alpha
  assert sorted(np.concatenate(parts[:2])) == list(range(len(LABELS)))


def test_the_seed_chooses_the_parts():
  part = lambda seed: splits.search_parts(LABELS, split='three_way', seed=seed).train
  np.testing.assert_array_equal(part(3), part(3))
  assert not np.array_equal(part(3), part(4))


def test_labels_need_not_be_consecutive():
  moved = splits.search_parts(LABELS * 10 - 5, split='three_way')
  np.testing.assert_array_equal(moved, splits.search_parts(LABELS, split='three_way'))


@pytest.mark.parametrize(
  'arguments, words',
  [
    ({'split': 'four_way'}, "data.split is 'four_way'; it must be three_way, two_way or one_way"),
    ({'split': 'two_way', 'fraction': 0.0}, 'data.fraction is 0'),
    ({'split': 'two_way', 'fraction': 1.5}, 'data.fraction is 1.5'),
    ({'split': 'two_way', 'fraction': float('nan')}, 'data.fraction is nan'),
    ({'split': 'three_way', 'fraction': 0.01}, '0.01 of 198 images is too few for the 3 parts'),
  ],
)
def test_search_parts_names_the_mistake(arguments, words):
  with pytest.raises(ValueError, match=words):
    splits.search_parts(LABELS, **arguments)


def test_no_labels_at_all():
  with pytest.raises(ValueError, match='too few'):
    splits.search_parts(np.zeros(0, np.int32), split='two_way')


PART = np.arange(100, 123)


def epoch(batch_size=5, num_batches=4, *, part=PART, seed=0, epoch=0, stream='train'):
  return order.epoch_indices(part, batch_size, num_batches, seed=seed, epoch=epoch, stream=stream)


def test_an_epoch_draws_without_replacement():
  batches = epoch()
  assert batches.shape == (4, 5) and batches.dtype == np.int32
  assert len(np.unique(batches)) == 20
  assert np.isin(batches, PART).all()


def test_longer_epochs_continue_with_further_permutations():
  found = epoch(10, 7).ravel()
  rounds = [found[:23], found[23:46], found[46:69]]
  assert all(sorted(r) == list(PART) for r in rounds)
  assert not np.array_equal(rounds[0], rounds[1])


def test_batches_depend_on_the_arguments_alone():
  before = epoch(epoch=3)
  np.random.seed(5)
  epoch(epoch=4)
  np.testing.assert_array_equal(before, epoch(epoch=3))
  # A longer epoch begins with the same batches.
  np.testing.assert_array_equal(before, epoch(5, 9, epoch=3)[:4])


def test_seed_epoch_and_stream_all_matter():
  changes = [{}, {'seed': 1}, {'epoch': 1}, {'stream': 'val_alpha'}, {'stream': 'val_beta'}]
  orders = {tuple(epoch(**change).ravel()) for change in changes}
  assert len(orders) == len(changes)


def test_the_order_is_the_same_on_every_machine():
  np.testing.assert_array_equal(
    splits.permutation(10, 0, 'train', 1, 0), [1, 4, 2, 0, 5, 3, 7, 8, 9, 6]
  )


def test_every_image_comes_first_about_as_often():
  firsts = [epoch(1, 1, part=np.arange(4), epoch=e)[0, 0] for e in range(400)]
  assert np.abs(np.bincount(firsts, minlength=4) - 100).max() < 40


@pytest.mark.parametrize('batch_size', [24, 0])
def test_a_batch_larger_than_the_part_is_named(batch_size):
  with pytest.raises(ValueError, match=f'batch size is {batch_size}; .* 23, .*val_alpha'):
    epoch(batch_size, stream='val_alpha')


@pytest.mark.parametrize('num_examples, batch_size', [(10, 4), (8, 4), (3, 4), (1, 1), (0, 4)])
def test_evaluation_has_every_example_once(num_examples, batch_size):
  indices, valid = order.evaluation_places(num_examples, batch_size)
  assert indices.shape == valid.shape and indices.shape[1] == batch_size
  assert indices.dtype == np.int32 and valid.dtype == bool
  assert list(indices[valid]) == list(range(num_examples))
  assert len(indices) == -(-num_examples // batch_size)
  assert not indices[~valid].any()


def test_evaluation_needs_a_batch_size():
  with pytest.raises(ValueError, match='batch size is 0'):
    order.evaluation_places(5, 0)
