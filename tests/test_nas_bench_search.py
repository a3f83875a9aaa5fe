"""Topology and searches in the space of NAS-Bench-201."""

import importlib.util
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_state, tiny_search, tiny_training

import stretchnas_jax as snas
from stretchnas_jax.cells import (
  genotype,
  nas_bench_201,
  nas_bench_table,
  relaxation,
  space,
  topology,
)
from stretchnas_jax.cells.nas_bench_201 import EDGES, Cell
from stretchnas_jax.config import files
from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning import bilevel
from stretchnas_jax.networks import sizes
from stretchnas_jax.networks.nas_bench_supernet import NasBenchSupernet
from stretchnas_jax.runs import (
  build,
  export_forms,
  find_cell,
  json_files,
  looked_up,
  search_borders,
  search_task,
  train_plan,
  what_if,
)
from stretchnas_jax.runs.parts import Parts

SPACE = space.nas_bench_201()
CONFIG = files.load_module(files.named()['nas_bench_201'])


def images(seed=0):
  return jax.random.normal(jax.random.key(seed), (4, 8, 8, 3))


# ---- topology ------------------------------------------------------------------------------------


def topologies(table):
  """Each choice of codes: beta that is 1 at the chosen codes, and the edges that they keep."""
  for choice in itertools.product(*[range(int(mask.sum())) for mask in table.mask]):
    beta = np.zeros(table.mask.shape, np.float32)
    beta[np.arange(len(choice)), list(choice)] = 1
    kept = {EDGES[e] for r, k in enumerate(choice) for e in np.flatnonzero(table.codes[r, k])}
    yield beta, kept


def test_the_penalty_is_0_where_every_node_has_an_input():
  table = topology.output_subsets(SPACE.graph)
  counts = {'zero': 0, 'path': 0, 'zero and dead end': 0, 'path and punished': 0}
  for beta, kept in topologies(table):
    operations = tuple('skip_connect' if edge in kept else 'none' for edge in EDGES)
    r, has_path = topology.invalid_topology_penalty(beta, table), Cell(operations).has_path
    assert (r == 0) == all(any(dst == node for _, dst in kept) for node in (1, 2, 3))
    assert r > 0 or has_path
    counts['zero'] += int(r == 0)
    counts['path and punished'] += int(has_path and r > 0)
    dead = any(all(src != node for src, _ in kept) for node in (1, 2))
    counts['zero and dead end'] += int(r == 0 and dead)
  assert counts['zero'] == 21 and counts['zero and dead end'] == 11
  assert counts['path and punished'] == 26


def test_scores_and_penalty_at_hand_made_logits():
  table = topology.output_subsets(SPACE.graph)
  scores = topology.edge_scores(np.zeros(table.mask.shape, np.float32), table)
  # By destination: 0->1, 0->2, 1->2, 0->3, 1->3, 2->3.
  np.testing.assert_allclose(scores, [0.875, 0.875, 0.75, 0.875, 0.75, 0.5], rtol=1e-6)
  beta = np.zeros(table.mask.shape, np.float32)
  beta[0, 0] = 1  # node 0 chooses the empty code, by 1; only it feeds node 1
  assert not table.codes[0, 0].any()
  beta[1:, -1] = 0
  all_others = np.where(
    table.codes[1:].sum(-1) == table.codes[1:].sum(-1).max(1, keepdims=True), 50, 0
  )
  beta[1:] = np.where(table.mask[1:], all_others, 0)
  np.testing.assert_allclose(
    topology.invalid_topology_penalty(beta, table), 1 - np.exp(-1), rtol=1e-5
  )


# ---- searches ------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize('kind', ['output_subsets', 'none'])
def test_a_search_in_this_space_ends_with_a_cell_of_the_benchmark(kind):
  own = space.nas_bench_201(with_none=kind == 'none')
  table = getattr(topology, kind)(own.graph)
  net = NasBenchSupernet(own, 4, 1, 3)
  adam = optax.adam(0.1)
  search = bilevel.make_search(
    net, table, bilevel.mixed(), weights_tx=optax.sgd(0.1), arch_tx=adam, image_shape=(8, 8, 3)
  )
  state = random_state(search)
  assert set(state.arch.alpha) == {'normal'} and state.arch.alpha['normal'].shape == (
    6,
    own.num_operations,
  )
  part = lambda seed: Examples(images(seed), jnp.array([0, 1, 2, 0]))
  batch = Batch(part(0), part(1), part(2) if kind != 'none' else None)
  step = jax.jit(search.step)
  before = state.arch
  for _ in range(2):
    state, metrics = step(state, batch, jax.random.key(1))
  assert np.isfinite(metrics['train_loss']) and int(state.step) == 2
  assert not np.array_equal(before.alpha['normal'], state.arch.alpha['normal'])
  cell = search.derive(state)
  assert isinstance(cell, Cell)
  strength = relaxation.softmax().strength(state.arch.alpha['normal'], {})
  kept = np.ones(6, bool)
  if kind != 'none':
    kept = np.asarray(topology.select(state.arch.beta['normal'], table))
  found = {edge: name for edge, name in zip(EDGES, cell.operations) if name != 'none'}
  names = [name for name in own.primitives if name != 'none']
  columns = [own.primitives.index(name) for name in names]
  for edge, name in found.items():
    e = EDGES.index(edge)
    assert kept[e] and names[int(strength[e, columns].argmax())] == name
  sums = jax.jit(search.evaluate)(state, part(3), jnp.ones(4))
  assert float(sums['count']) == 4


def test_a_cell_is_made_of_edges():
  edges = [('skip_connect', 0, 1), ('avg_pool_3x3', 1, 3)]
  cell = nas_bench_201.from_edges(edges)
  assert cell.operations == ('skip_connect', 'none', 'none', 'none', 'avg_pool_3x3', 'none')
  with pytest.raises(ValueError, match='1->3 is not in NAS-Bench-201, or has two operations'):
    nas_bench_201.from_edges([*edges, ('skip_connect', 1, 3)])
  with pytest.raises(ValueError, match='3->4'):
    nas_bench_201.from_edges([('skip_connect', 3, 4)])


@pytest.mark.parametrize('method', CONFIG.names())
def test_every_method_of_the_config_decodes_a_cell(method):
  config = CONFIG.get_config(method)
  config.model.update({'channels': 8, 'num_layers': 1})
  objects = build.search_objects(
    config, num_classes=3, image_shape=(8, 8, 3), num_steps=4, steps_per_epoch=2
  )
  # DOTS has a topology from its second phase on, and gates do not compete, so none has none.
  has_topology = method.endswith('_sc') or method == 'pc_darts'
  assert objects.table.has_rows == (has_topology and method != 'dots_sc')
  has_none = not method.endswith('_sc') and method not in ('fair_darts', 'gradual_pruning')
  assert ('none' in objects.net.space.primitives) == has_none
  state = jax.eval_shape(objects.search.init, jax.random.key(0))
  draw = lambda shape: np.random.default_rng(0).normal(size=shape.shape).astype(np.float32)
  arch = jax.tree.map(draw, state.arch)
  cell, _ = objects.search.decode(arch, 0)
  assert isinstance(cell, Cell)
  assert len(cell.edges) == 6 or method.endswith('_sc') or 'none' in cell.operations


@pytest.mark.parametrize(
  'method, base', [('snas', 'snas'), ('snas_sc', 'snas'), ('gradual_pruning',) * 2]
)
def test_a_cost_has_the_weight_of_its_method(method, base):
  elsewhere = files.load_module(files.named()[f'{base}_cifar10']).get_config()
  assert CONFIG.get_config(method).penalty == elsewhere.penalty
  assert elsewhere.penalty.cost + elsewhere.penalty.cost_logarithm > 0


@pytest.mark.parametrize('method', [pytest.param('dots', marks=pytest.mark.long), 'p_darts_sc'])
def test_a_method_with_phases_can_be_planned_to_its_end(method):
  config = CONFIG.get_config(method)
  config.data.update({'name': 'digits', 'image_size': 8, 'fraction': 0.1})
  config.model.channels, config.search.batch_size = 2, 8
  plan = search_task.SEARCH.plan(config, Parts())
  spaces = [one.objects.net.space for one in search_borders.assumed_plans(plan)]
  plan.close()
  assert spaces and all(set(one.allowed or {'normal'}) == {'normal'} for one in spaces)
  assert any(one.allowed is not None for one in spaces)


def test_a_search_says_whose_accuracies_it_looks_up(monkeypatch):
  config = tiny_search()
  config.space.name, config.model.num_layers = 'nas_bench_201', 1
  plan = search_task.SEARCH.plan(config, Parts())
  said = search_task.describe_plan(plan)
  plan.close()
  assert f'table     {looked_up.source()}' in said
  monkeypatch.setattr(nas_bench_table, '_MODULE', 'a_module_that_is_not_there')
  nas_bench_table.of_package.cache_clear()
  try:
    assert looked_up.source().startswith('the table of NAS-Bench-201 is not installed: pip install')
    assert not looked_up.looked_up(Cell(('skip_connect',) * 6))
  finally:
    nas_bench_table.of_package.cache_clear()


def test_a_run_in_this_space_is_described_and_trained(tmp_path):
  config = tiny_search()
  config.space.name, config.model.num_layers = 'nas_bench_201', 1
  config.search.epochs, config.penalty.cost = 1, 1.0
  result = snas.run_search(config, tmp_path / 'run')
  cell = genotype.from_fields(result['genotype'])
  assert isinstance(cell, Cell) and find_cell.genotype_from(tmp_path / 'run') == cell
  (line,) = json_files.read_lines(tmp_path / 'run' / 'metrics.jsonl')
  assert line['macs'] == sizes.measure(cell, 2, 1, 10, image_shape=(8, 8, 1)).macs
  assert line['expected_macs'] > 0
  (line,) = json_files.read_lines(tmp_path / 'run' / 'genotypes.jsonl')
  assert genotype.from_fields(line['genotype']) == cell
  if importlib.util.find_spec('analognasbench'):
    assert line['table_rank'] == nas_bench_201.rank(cell)
    assert line['table_source'] == nas_bench_201.load().source
    assert what_if.ask(tmp_path / 'run').notes[0].endswith(line['table_source'])
  assert snas.load_history(tmp_path / 'run').op_weights['normal'].shape == (1, 6, 4)
  training = tiny_training()
  training.model.update({'auxiliary': False, 'num_layers': 1})
  training.train.update({'epochs': 1, 'drop_path': 0.0})
  trained = snas.run_train(training, tmp_path / 'trained', cell)
  assert trained['genotype'] == cell.to_dict()
  apply_fn, variables, info = snas.load_trained(tmp_path / 'trained')
  assert apply_fn(variables, np.zeros((2, *info['image_shape']), np.uint8)).shape == (2, 10)
  with pytest.raises(ValueError, match='only --to=stablehlo holds its network'):
    export_forms.export_as(tmp_path / 'trained', tmp_path / 'net.py', 'torch')
  export_forms.export_as(tmp_path / 'trained', tmp_path / 'cell.dot', 'dot')
  assert (tmp_path / 'cell.dot').read_text().count('subgraph') == 1


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'model.auxiliary': True}, 'config.model.auxiliary is True; .* set it to False'),
    ({'train.drop_path': 0.2}, 'config.train.drop_path is 0.2; .* set it to 0'),
  ],
)
def test_a_training_with_more_than_the_network_has_is_refused(tmp_path, fields, words):
  config = tiny_training(**({'model.auxiliary': False, 'train.drop_path': 0.0} | fields))
  with pytest.raises(ValueError, match=words):
    snas.run_train(config, tmp_path / 'run', Cell(('skip_connect',) * 6))
  assert not (tmp_path / 'run').exists()


def test_a_plan_counts_the_cells_of_each_stage():
  config = tiny_training(**{'train.drop_path': 0.0, 'model.num_layers': 2})
  plan = train_plan.plan_train(config, genotype=Cell(('skip_connect',) * 6))
  assert 'network   2 cells in each of three stages, C 2' in train_plan.describe_plan(plan)
