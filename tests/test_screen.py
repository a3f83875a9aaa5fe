"""The rows that a run shows, and the accuracy of the decoded cell in the supernet."""

import io
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_search, tiny_supernet

import stretchnas_jax
from stretchnas_jax.cells import genotype, topology
from stretchnas_jax.cells.space import CELL_TYPES, darts_space
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.learning import bilevel, evaluation, optimizers
from stretchnas_jax.runs import history, json_files, judging, metrics, screen
from stretchnas_jax.runs.settings import Epochs, Span


def test_a_row_fits_a_terminal_and_its_header_comes_once():
  out = io.StringIO()
  progress = metrics.Progress(300, Epochs([Span(3, 100)]), 64, stream=out)
  row = metrics.Row('header', 'numbers', ['  remark'])
  for epoch in (1, 2):
    progress.update(100 * epoch, row, loss=1.0)
  lines = out.getvalue().splitlines()
  assert [line.split()[0] for line in lines] == ['header', 'numbers', 'remark', 'numbers', 'remark']
  assert lines[0].split()[1:] == ['img/s', 'ETA'] and len(lines[1].split()) == 3


def run_of(path, epochs=200):
  """A stand-in for a run of which only rows are made."""
  space = tiny_supernet().space
  objects = types.SimpleNamespace(
    net=types.SimpleNamespace(space=space), table=topology.output_subsets(space.graph)
  )
  settings = types.SimpleNamespace(epochs=epochs)
  plan = types.SimpleNamespace(objects=objects, settings=settings)
  return types.SimpleNamespace(
    plan=plan, now=plan, course=[], folder=types.SimpleNamespace(path=path)
  )


def line_of(epoch, **more):
  names = ('train_loss', 'train_accuracy', 'val_loss', 'val_accuracy', 'penalty')
  return {'step': epoch, 'epoch': epoch, **dict.fromkeys(names, 0.0), **more}


def scores_of(run, seed):
  space, table = run.plan.objects.net.space, run.plan.objects.table
  draw = np.random.default_rng(seed)
  shape = (len(space.graph.edges), space.num_operations)
  strength = {c: draw.dirichlet(np.ones(shape[1]), shape[0]) for c in CELL_TYPES}
  beta = {c: draw.normal(size=table.mask.shape) for c in CELL_TYPES}
  cell, _ = genotype.derive(space, table, strength, beta)
  edge_scores = {c: np.ones(shape[0]) for c in CELL_TYPES}
  return cell, (strength, edge_scores, beta)


def test_the_first_row_shows_the_cell_and_later_ones_the_difference(tmp_path):
  run = run_of(tmp_path)
  rows = [screen.search_row(run, line_of(i + 1), *scores_of(run, i)) for i in range(2)]
  assert ' new' in rows[0].text and rows[0].remarks[0].strip().startswith('normal')
  assert len(rows[0].header) == len(rows[0].text.ljust(len(rows[0].header)))
  again = screen.search_row(run, line_of(3), *scores_of(run, 1))
  assert again.remarks == [] and again.text.rstrip().endswith('=')
  assert any('>' in text or '+' in text for text in rows[1].remarks)
  worst = screen.search_row(
    run, line_of(199, train_loss=12345.678, val_loss=99999.9), *scores_of(run, 2)
  )
  out = io.StringIO()
  metrics.Progress(200, Epochs([Span(200, 1)]), 1, stream=out).update(199, worst)
  assert all(len(line) <= 100 for line in out.getvalue().splitlines())


def test_the_remarks_of_a_large_cell_fit_a_terminal(tmp_path):
  run = run_of(tmp_path)
  run.plan.objects.net.space = darts_space(6)
  run.plan.objects.table = topology.output_subsets(darts_space(6).graph)
  rows = [screen.search_row(run, line_of(i + 1), *scores_of(run, i)) for i in range(2)]
  for row in rows:
    assert max(map(len, row.remarks)) <= 100 and len(row.remarks) > 2
    assert all(line.startswith(' ' * 10) for line in row.remarks)


def test_a_line_that_is_crossed_is_a_warning(tmp_path):
  run = run_of(tmp_path)
  screen.search_row(run, line_of(1), *scores_of(run, 0))
  row = screen.search_row(run, line_of(2, penalty=0.25), *scores_of(run, 0))
  (warning,) = row.remarks
  assert 'warning: r(beta) has left 0: it is 0.25' in warning
  assert any('r(beta) has left 0' in text for text in screen.last_words(run))
  assert 'choices are decided' in screen.last_words(run)[0]


def test_a_training_has_the_columns_that_it_measures():
  row = screen.training_row({**line_of(3), 'test_accuracy': None, 'test_loss': None}, 25)
  assert row.header.split()[-3:] == ['test', 'loss', 'accuracy'] and row.text.split()[-1] == '-'
  del (line := line_of(3))['val_loss'], line['val_accuracy']
  assert 'val' not in screen.training_row(line, 25).header


def search_of(net):
  table, sgd = topology.none(net.space.graph, k=1), optimizers.arch_tx()
  search = bilevel.make_search(
    net, table, bilevel.first_order, weights_tx=sgd, arch_tx=sgd, image_shape=(8, 8, 3)
  )
  return search, search.init(jax.random.key(0))


def test_the_mixture_of_a_cell_computes_its_operations_alone():
  net = tiny_supernet()
  search, state = search_of(net)
  space = net.space
  cell, _ = scores_of(run_of(None), 0)
  mixture = evaluation.mixture_of(space, cell.to_dict())
  for kind in CELL_TYPES:
    assert mixture.op_weights[kind].sum() == len(getattr(cell, kind))
    for op, *ends in getattr(cell, kind):
      e = space.graph.edges.index(tuple(ends))
      assert mixture.edge_scores[kind][e] == 1
      assert mixture.op_weights[kind][e, space.primitives.index(op)] == 1
  images = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
  examples = Examples(images, jnp.arange(6) % 3)
  found = search.evaluate(state._replace(arch=mixture), examples, jnp.ones(6))
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  logits, _ = net.apply(variables, images, *mixture, train=True, mutable=['batch_stats'])
  assert found['correct'] == (logits.argmax(-1) == examples.labels).sum()
  assert found['loss'] != search.evaluate(state, examples, jnp.ones(6))['loss']


def test_a_search_measures_its_cell_and_remembers_its_course_when_it_resumes(tmp_path, capsys):
  config = tiny_search(**{'log.cell_every': 2, 'search.epochs': 3})
  stretchnas_jax.run_search(config, tmp_path, on_epoch=lambda line, _: line['epoch'] == 2)
  lines = json_files.read_lines(tmp_path / 'metrics.jsonl')
  assert ['cell_accuracy' in line for line in lines] == [False, True]
  assert 0 <= lines[1]['cell_accuracy'] <= 1
  assert capsys.readouterr().err.count(' train loss ') == 1
  stretchnas_jax.run_search(config, tmp_path)
  text = capsys.readouterr().err
  assert '3/3' in text and ' new ' not in text and 'choices are decided' in text
  course = judging.course(history.load_history(tmp_path), 3)
  assert [epoch.epoch for epoch in course] == [1, 2, 3]
  assert course[1].cell_accuracy == lines[1]['cell_accuracy']
  assert course[2].judgement.choices


@pytest.mark.parametrize('value', [0.0, 1.0, 12345.678, None])
def test_numbers_are_short(value):
  row = screen.training_row({**line_of(1), 'train_loss': value}, 1)
  assert len(row.text) == len(row.header)
