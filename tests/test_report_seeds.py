"""The page of several seeds, and its words on cells with several operations on an edge."""

import json

from report_runs import write_search, write_seeds, write_training
from test_report import page_of, words_of


def test_several_seeds_have_means_intervals_and_the_agreement_of_their_cells(tmp_path):
  words = words_of(page_of(write_seeds(tmp_path / 'trainings', write_training)))
  assert 'Test accuracy, mean 98.00%' in words and '95 % interval 95.52% to 100.48%' in words
  assert 'normal cell: 3 of 3 edges are in all 3 cells, 3 of them with the same' in words
  words = words_of(page_of(write_seeds(tmp_path / 'searches', write_search, 2)))
  assert 'Range 85.00% to 85.00%' in words and 'edges are in all 2 cells' in words


def test_a_training_without_test_images_has_validation_accuracies(tmp_path):
  path = write_seeds(tmp_path / 'trainings', write_training)
  for one in path.glob('seed_*'):
    result = json.loads((one / 'result.json').read_text())
    accuracy = result.pop('test_accuracy')
    result |= {'test_accuracy': None, 'last_val_accuracy': accuracy}
    (one / 'result.json').write_text(json.dumps(result))
  words = words_of(page_of(path))
  assert 'Validation accuracy, mean 98.00%' in words and 'Test accuracy, mean' not in words


def test_two_operations_on_an_edge_both_count(tmp_path):
  path = write_seeds(tmp_path / 'searches', write_search, 2)
  both = [['sep_conv_3x3', 0, 2], ['dil_conv_5x5', 0, 2], ['skip_connect', 1, 2]]
  for one, edges in zip(sorted(path.glob('seed_*')), (both, [both[1], both[0], both[2]])):
    result = json.loads((one / 'result.json').read_text())
    cell = {'normal': edges, 'normal_concat': [2], 'reduce': both[1:], 'reduce_concat': [2]}
    (one / 'result.json').write_text(json.dumps(result | {'genotype': cell}))
  words = words_of(page_of(path))
  assert 'normal cell: 2 of 2 edges are in all 2 cells, 2 of them with the same' in words
  assert 'dil_conv_5x5 + sep_conv_3x3 (2)' in words
