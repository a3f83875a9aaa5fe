"""The history of a search: written a line an epoch, read in one call."""

import json

import jax
import numpy as np
import pytest
from flax import struct
from past_runs import write_search

from stretchnas_jax.cells import relaxation, topology
from stretchnas_jax.cells.space import CELL_TYPES, darts_space
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.runs import (
  compare_runs,
  explain_edge,
  history,
  json_files,
  report,
  what_if,
)
from stretchnas_jax.runs import scores as scores_lib

SPACE = darts_space(3)
TABLES = {
  'output_subsets': topology.output_subsets(SPACE.graph),
  'input_pairs': topology.input_pairs(SPACE.graph),
  'none': topology.none(SPACE.graph),
}


def arch_of(table, seed):
  keys = iter(jax.random.split(jax.random.key(seed), 4))
  alpha = {c: relaxation.softmax().init(next(keys), SPACE) for c in CELL_TYPES}
  beta = {c: jax.random.normal(next(keys), table.mask.shape) for c in CELL_TYPES}
  return Arch(jax.device_get(alpha), jax.device_get(beta))


def line_of(arch, table, strength=None):
  weights = {c: jax.nn.softmax(arch.alpha[c]) for c in CELL_TYPES}
  scores = {c: topology.edge_scores(arch.beta[c], table) for c in CELL_TYPES}
  return history.scores_line(arch, table, weights, scores, strength or weights), weights, scores


def cell_of(i):
  edges = [[SPACE.primitives[i], 0, 2]]
  return {'normal': edges, 'normal_concat': [2], 'reduce': edges, 'reduce_concat': [2]}


def write(path, table, lines, epochs=None):
  (path / 'space.json').write_text(json.dumps(history.facts_line(SPACE, table)))
  for i, line in enumerate(lines):
    about = {'step': 10 * (i + 1), 'epoch': i + 1}
    json_files.Lines(path / 'scores.jsonl').append(about | line)
    json_files.Lines(path / 'genotypes.jsonl').append(about | {'genotype': cell_of(i)})
    json_files.Lines(path / 'metrics.jsonl').append(about | {'val_loss': i / 2})


@pytest.mark.parametrize('kind', TABLES)
def test_a_history_gives_back_the_numbers_of_each_epoch(tmp_path, kind):
  table = TABLES[kind]
  arches = [arch_of(table, seed) for seed in range(3)]
  made = [line_of(arch, table) for arch in arches]
  write(tmp_path, table, [line for line, _, _ in made])
  found = history.load_history(tmp_path)
  assert found.epochs.tolist() == [1, 2, 3]
  assert found.facts.edges == SPACE.graph.edges and found.facts.primitives == SPACE.primitives
  for name in ('codes', 'mask', 'scale'):
    wanted = getattr(table, name)
    np.testing.assert_array_equal(getattr(found.facts.table, name).reshape(wanted.shape), wanted)
  assert (found.facts.table.by, found.facts.table.k) == (table.by, table.k)
  assert [line['val_loss'] for line in found.lines] == [0, 0.5, 1]
  assert list(found.genotypes) == [cell_of(i) for i in range(3)]
  for i, (arch, (_, weights, scores)) in enumerate(zip(arches, made)):
    for c in CELL_TYPES:
      np.testing.assert_array_equal(found.alpha[c][i], arch.alpha[c])  # to the bit
      real = np.where(table.mask, arch.beta[c], -np.inf)
      np.testing.assert_array_equal(found.beta[c][i], real)
      np.testing.assert_allclose(found.op_weights[c][i], weights[c], rtol=1e-5)
      np.testing.assert_array_equal(found.strength[c][i], found.op_weights[c][i])
      np.testing.assert_allclose(found.edge_scores[c][i], scores[c], rtol=1e-5)


def test_a_strength_of_its_own_is_kept_beside_the_weights(tmp_path):
  table = TABLES['none']
  arch = arch_of(table, 0)
  own = {c: np.arange(SPACE.num_operations * 9.0).reshape(9, -1) for c in CELL_TYPES}
  plain, line = line_of(arch, table)[0], line_of(arch, table, own)[0]
  assert 'strength' not in plain
  write(tmp_path, table, [line])
  np.testing.assert_array_equal(history.load_history(tmp_path).strength['reduce'][0], own['reduce'])


def test_alpha_may_be_a_dict_of_arrays(tmp_path):
  table = TABLES['none']
  arch = arch_of(table, 0)
  groups = {c: {'a': a[:, :3], 'b': a[:, 3:]} for c, a in arch.alpha.items()}
  line = history.scores_line(
    arch._replace(alpha=groups), table, arch.alpha, {c: np.ones(9) for c in CELL_TYPES}, arch.alpha
  )
  write(tmp_path, table, [line])
  found = history.load_history(tmp_path).alpha['normal']
  np.testing.assert_array_equal(found['b'][0], groups['normal']['b'])


def with_alpha(alpha):
  """Returns a line of scores whose alpha is any pytree."""
  arch, ones = arch_of(TABLES['none'], 0), {c: np.ones(9) for c in CELL_TYPES}
  own = arch._replace(alpha=dict.fromkeys(CELL_TYPES, alpha))
  return history.scores_line(own, TABLES['none'], arch.alpha, ones, arch.alpha)


class Logits(struct.PyTreeNode):
  """A node of an own class."""

  edges: np.ndarray
  scale: np.ndarray


def test_alpha_may_be_any_pytree(tmp_path):
  numbers = np.arange(6, dtype=np.float32).reshape(3, 2)
  node = Logits(numbers, numbers[1])
  own = {'scalar': np.array(0.1, np.float32), 'unequal': (numbers, numbers[0]), 'node': node}
  write(tmp_path, TABLES['none'], [with_alpha(own)] * 2)
  found = history.load_history(tmp_path).alpha['reduce']
  assert found['scalar'].tolist() == [np.float32(0.1)] * 2
  for name, last in (('unequal', numbers[0]), ('node', numbers[1])):
    np.testing.assert_array_equal(found[name][0], [numbers] * 2)
    np.testing.assert_array_equal(found[name][1], [last] * 2)


def test_alpha_may_change_from_phase_to_phase(tmp_path):
  ones = np.ones((2, 3), np.float32)
  lines = [{'depth': ones, 'kind': ones}, {'depth': ones[:1], 'kind': {'a': ones}}]
  write(tmp_path, TABLES['none'], list(map(with_alpha, lines)))
  found = history.load_history(tmp_path).alpha['normal']
  assert [one.shape for one in found['depth']] == [(2, 3), (1, 3)]
  np.testing.assert_array_equal(found['kind'][0], ones)
  np.testing.assert_array_equal(found['kind'][1]['a'], ones)


def test_an_alpha_that_holds_no_numbers_is_named(tmp_path):
  line = with_alpha(np.ones(2, np.float32))
  line['alpha']['reduce'] = ['x']
  write(tmp_path, TABLES['none'], [line])
  with pytest.raises(ValueError, match="scores.jsonl is damaged: 'x' is not a number"):
    history.load_history(tmp_path)


def deeper(run):
  """Gives the epochs of a written search logits of their own for 1, 2, 4 ... layers."""
  lines = json_files.read_lines(run / 'scores.jsonl')
  for i, line in enumerate(lines):
    for name in ('alpha', 'op_weights'):
      line[name] = {c: [values] * 2**i for c, values in line[name].items()}
  (run / 'scores.jsonl').write_text(''.join(map('{}\n'.format, map(json.dumps, lines))))


def test_a_search_whose_layers_grow_is_read_by_every_command(tmp_path):
  """P-DARTS changes the depth, and each layer may have logits of its own."""
  for name in ('same', 'deeper'):
    write_search(tmp_path / name, finished=name == 'same')
  deeper(tmp_path / 'deeper')
  found = history.load_history(tmp_path / 'deeper')
  for values in (found.alpha, found.op_weights, found.strength):
    assert [one.shape for one in values['normal']] == [(n, 9, 7) for n in (1, 2, 4)]
  both = [tmp_path / name for name in ('same', 'deeper')]
  first, second = (what_if.ask(path) for path in both)
  assert [row.cell for row in first.rows] == [row.cell for row in second.rows]
  edges = [explain_edge.explain(scores_lib.load(path), CELL_TYPES, (0, 2)) for path in both]
  assert [one.moments for one in edges[0]] == [one.moments for one in edges[1]]
  compared = compare_runs.correlations(compare_runs.read(both))
  assert compared['normal'] == {'edge_scores': 1.0, 'operations': 1.0, 'pairs': 1}
  assert 'Operation weights (alpha)' in report.write(tmp_path / 'deeper').read_text()


def test_the_epochs_of_an_earlier_search_space_do_not_count(tmp_path):
  write_search(tmp_path / 'run')
  write_search(tmp_path / 'smaller', nodes=2)
  lines = json_files.read_lines(tmp_path / 'run' / 'scores.jsonl')
  lines[0] = json_files.read_lines(tmp_path / 'smaller' / 'scores.jsonl')[0]
  text = ''.join(map('{}\n'.format, map(json.dumps, lines)))
  (tmp_path / 'run' / 'scores.jsonl').write_text(text)
  found = history.load_history(tmp_path / 'run')
  assert found.epochs.tolist() == [2, 3] and found.strength['normal'].shape == (2, 9, 7)
  assert len(found.genotypes) == len(found.lines) == 2
  assert {row.epoch for row in what_if.ask(tmp_path / 'run').rows} <= {2, 3}
  assert 'Operation weights (alpha)' in report.write(tmp_path / 'run').read_text()


def test_an_epoch_counts_where_every_file_has_its_whole_line(tmp_path):
  table = TABLES['input_pairs']
  write(tmp_path, table, [line_of(arch_of(table, seed), table)[0] for seed in range(3)])
  with (tmp_path / 'scores.jsonl').open('r+b') as file:
    file.truncate((tmp_path / 'scores.jsonl').stat().st_size - 5)
  found = history.load_history(tmp_path)
  assert found.epochs.tolist() == [1, 2] and found.alpha['normal'].shape[0] == 2


def test_a_run_of_version_0_1_has_cells_and_metrics_alone(tmp_path):
  table = TABLES['none']
  write(tmp_path, table, [line_of(arch_of(table, 0), table)[0]])
  (tmp_path / 'space.json').unlink()
  (tmp_path / 'scores.jsonl').unlink()
  found = history.load_history(tmp_path)
  assert found.facts is None and found.epochs.tolist() == [1] and found.alpha == {}
  assert len(found.genotypes) == len(found.lines) == 1


@pytest.mark.parametrize('content', ['{}', '{"edges": [[0]]}', '[]', '{'])
def test_a_damaged_history_is_named(tmp_path, content):
  table = TABLES['none']
  write(tmp_path, table, [line_of(arch_of(table, 0), table)[0]])
  (tmp_path / 'space.json').write_text(content)
  with pytest.raises(ValueError, match='space.json is damaged'):
    history.load_history(tmp_path)


def test_numbers_that_do_not_fit_are_named(tmp_path):
  table = TABLES['output_subsets']
  line = line_of(arch_of(table, 0), table)[0]
  line['beta']['normal'][0].pop()
  write(tmp_path, table, [line])
  with pytest.raises(ValueError, match='scores.jsonl is damaged'):
    history.load_history(tmp_path)


def test_a_folder_without_a_search_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='no search has run there'):
    history.load_history(tmp_path)


def test_a_line_takes_a_few_kilobytes(tmp_path):
  table = TABLES['output_subsets']
  assert len(json_files.dumps(line_of(arch_of(table, 0), table)[0])) < 6000


def test_a_damaged_cell_does_not_count_and_scores_of_another_size_are_named(tmp_path):
  run = tmp_path / 'run'
  write_search(run)
  lines = json_files.read_lines(run / 'genotypes.jsonl')
  lines[1]['genotype']['reduce'][0] = True
  (run / 'genotypes.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
  assert history.load_history(run).epochs.tolist() == [1, 3]
  facts = json.loads((run / 'space.json').read_text())
  (run / 'space.json').write_text(json.dumps({**facts, 'primitives': ['a', 'b']}))
  with pytest.raises(ValueError, match='op_weights is not of the edges and operations in space'):
    history.load_history(run)
  config = json.loads((run / 'config.json').read_text())
  config.setdefault('search', {})['phases'] = [{'epochs': 1}, {'epochs': 1}]
  (run / 'config.json').write_text(json.dumps(config))
  found = history.load_history(run)  # a phase with another space has begun
  assert found.facts.primitives == ('a', 'b') and not len(found.epochs) and not found.op_weights
