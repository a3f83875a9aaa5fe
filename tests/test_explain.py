"""One edge of a search; and accuracies with the weights of its supernet."""

import json

import numpy as np
import pytest
from helpers import tiny_search
from past_runs import write_search

import stretchnas_jax
from stretchnas_jax import explain, what_if
from stretchnas_jax.cells import choices
from stretchnas_jax.cells.space import nas_bench_201
from stretchnas_jax.cli import app
from stretchnas_jax.runs import explain_edge, judging, scores, steps, supernet_accuracy
from stretchnas_jax.runs import history as history_lib
from stretchnas_jax.runs import what_if as what_if_lib

BOTH = ('normal', 'reduce')


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
  path = tmp_path_factory.mktemp('searched') / 'run'
  config = tiny_search(**{'topology.kind': 'output_subsets', 'search.epochs': 1})
  return path, stretchnas_jax.run_search(config, path)


@pytest.mark.parametrize(
  'text, cells, edge',
  [
    ('0-3', BOTH, (0, 3)),
    ('0->12', BOTH, (0, 12)),
    ('normal:1-2', ('normal',), (1, 2)),
    ('reduce 1,2', ('reduce',), (1, 2)),
  ],
)
def test_an_edge_has_several_spellings(text, cells, edge):
  assert explain_edge.parse(text) == (cells, edge)


@pytest.mark.parametrize('text', ['', '3', 'a-b', 'both:0-1', '0-1-2', '0->\x1b', '-1-2'])
def test_other_texts_name_no_edge(text):
  with pytest.raises(ValueError, match='it must be like 0-3'):
    explain_edge.parse(text)


def test_the_history_has_the_weights_of_each_epoch(tmp_path):
  write_search(tmp_path / 'r', epochs=4)
  found = scores.load(tmp_path / 'r')
  normal, reduce = explain_edge.explain(found, BOTH, (0, 2))
  assert (normal.cell, reduce.cell) == BOTH and [m.epoch for m in normal.moments] == [1, 2, 3, 4]
  weights = found.strength('normal')[0]
  last = normal.moments[-1]
  assert last.weight == pytest.approx(weights.max()) and last.weight > normal.moments[0].weight
  assert last.first == found.facts.primitives[weights.argmax()] and last.rival < last.weight
  assert last.score == pytest.approx(found.edge_scores('normal')[0])
  kept = [op for op, src, dst in found.history.genotypes[-1]['normal'] if (src, dst) == (0, 2)]
  assert list(last.kept) == kept
  judged = judging.judgement(history_lib.load_history(tmp_path / 'r')).choices
  assert set(normal.choices) <= set(judged)
  assert {choices.EDGES} <= {choice.kind for choice in normal.choices}


def test_an_edge_that_is_not_there_is_named(tmp_path):
  write_search(tmp_path / 'r')
  with pytest.raises(ValueError, match='no edge 3->2; its edges lead from 0->2 to 3->4'):
    explain_edge.explain(scores.load(tmp_path / 'r'), BOTH, (3, 2))


def test_without_data_the_rest_is_told(tmp_path, capsys):
  write_search(tmp_path / 'r', epochs=30)
  app.run(explain.prepare, config=False, options=explain.OPTIONS, positional=('run', 'edge'),
          argv=['explain', str(tmp_path / 'r'), 'normal:0-2'])  # fmt: skip
  out = capsys.readouterr().out
  assert 'normal cell, edge 0->2: ' in out and 'the cost of its removal is not known' in out
  assert 'reduce' not in out and len(out.splitlines()) < 20


def test_the_cost_of_a_removal_is_measured(searched, capsys):
  path, _ = searched
  app.run(explain.prepare, config=False, options=explain.OPTIONS, positional=('run', 'edge'),
          argv=['explain', str(path), '0-2', '--json'])  # fmt: skip
  found = json.loads(capsys.readouterr().out)
  assert found['notes'] == []
  for cell in BOTH:
    removals = found[cell]['removals']
    assert removals[0]['network'] == 'supernet'
    assert ('cell' in [r['network'] for r in removals]) == bool(found[cell]['history'][-1]['kept'])
  # A supernet of one layer has no normal cell.
  normal, reduce = (found[cell]['removals'][0] for cell in BOTH)
  assert normal['loss'] == pytest.approx(normal['loss_without'])
  assert abs(reduce['loss'] - reduce['loss_without']) > 1e-6


def test_cells_are_measured_with_the_weights_of_the_supernet(searched):
  path, _ = searched
  answer = supernet_accuracy.measured(what_if_lib.ask(path))
  assert answer.notes == () and all(0 <= row.accuracy <= 1 for row in answer.rows)
  with supernet_accuracy.opened(path) as net:
    assert net.cell() == answer.rows[0].cell
    assert net.of(net.mixture_of(net.cell())).accuracy == answer.rows[0].accuracy


def test_a_supernet_is_measured_on_the_images_of_its_phase(tmp_path):
  given = ({'epochs': 1}, {'epochs': 1, 'data.split': 'two_way', 'model.form': 'merged'})
  config = tiny_search(**{'search.phases': given, 'data.fraction': 0.2})
  stretchnas_jax.run_search(config, tmp_path / 'run')
  last = history_lib.load_history(tmp_path / 'run').lines[-1]
  with supernet_accuracy.opened(tmp_path / 'run') as net:
    assert net.saved.objects.net.form == 'planes'  # for this machine, whatever the phase had
    # With the running averages, as the search itself has validated.
    found = steps.measure(net.program, net.saved.state, net.data, net.feed, 2)
  np.testing.assert_allclose([found['accuracy'], found['loss']],
                             [last['val_accuracy'], last['val_loss']], rtol=1e-4)  # fmt: skip


def test_without_data_there_are_no_accuracies(tmp_path):
  write_search(tmp_path / 'r')
  answer = supernet_accuracy.measured(what_if_lib.ask(tmp_path / 'r'))
  assert 'without accuracies: ' in answer.notes[0] and answer.rows[0].accuracy is None
  assert 'accuracy' not in what_if_lib.text(answer).splitlines()[0]
  assert what_if.OPTIONS


def test_a_cell_type_that_a_search_does_not_have_is_named(tmp_path):
  write_search(tmp_path / 'r', 'none', space=nas_bench_201())
  found = scores.load(tmp_path / 'r')
  (one,) = explain_edge.explain(found, BOTH, (0, 1))
  assert one.cell == 'normal' and len(one.moments) == 3
  with pytest.raises(ValueError, match='no reduce cell; its only type is normal'):
    explain_edge.explain(found, ('reduce',), (0, 1))
