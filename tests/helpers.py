"""Configs, cells and small functions that several test files use."""

import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import small_networks
from hypothesis import strategies as st
from jax.extend.core import Jaxpr
from ml_collections import ConfigDict
from PIL import Image

from stretchnas_jax import benchmark
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype, graph, space, topology
from stretchnas_jax.cli import command_line
from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning import bilevel, optimizers
from stretchnas_jax.networks import supernet
from stretchnas_jax.runs import json_files

ROOT = pathlib.Path(__file__).parents[1]

# ---- cells and configs ---------------------------------------------------------------------------

# A cell of one node, the smallest one that has a convolution.
TINY_EDGES = (('dil_conv_3x3', 0, 2), ('skip_connect', 1, 2))
TINY_CELL = genotype.Genotype(TINY_EDGES, (2,), TINY_EDGES, (2,))

TINY_SEARCH = {
  'data.name': 'digits', 'data.image_size': 8, 'data.crop_padding': 1, 'data.fraction': 0.05,
  'space.num_intermediate': 1, 'model.channels': 2, 'model.num_layers': 1, 'model.form': 'merged',
  'rule.kind': 'mixed', 'search.epochs': 2, 'search.batch_size': 8, 'search.steps_per_call': 2,
  'parallel.backend': 'single',
}  # fmt: skip
TINY_TRAINING = {
  'data.name': 'digits', 'data.image_size': 8, 'data.fraction': 0.2, 'data.holdout': 0.3,
  'data.crop_padding': 1, 'data.cutout': 2, 'model.channels': 2, 'model.num_layers': 1,
  'model.auxiliary': False, 'train.epochs': 2, 'train.batch_size': 64, 'train.drop_path': 0.4,
  'weights.learning_rate': 0.05, 'parallel.backend': 'single',
}  # fmt: skip


@st.composite
def cells(draw: st.DrawFn) -> tuple[list[tuple[str, int, int]], list[int]]:
  """Draws any well-formed cell: with skipped numbers, parallel edges and loose ends."""
  nodes = sorted(draw(st.sets(st.integers(2, 9), min_size=1, max_size=5)))
  edges = []
  for position, node in enumerate(nodes):
    for src in draw(st.lists(st.sampled_from([0, 1] + nodes[:position]), min_size=1, max_size=4)):
      edges.append((draw(st.sampled_from(space.OPERATIONS)), src, node))
  concat = draw(st.lists(st.sampled_from(nodes), min_size=1, unique=True))
  return draw(st.permutations(edges)), concat


def with_fields(config: ConfigDict, fields: dict[str, Any]) -> ConfigDict:
  """Sets fields such as `{'model.channels': 2}` of a config, and returns it."""
  for field, value in fields.items():
    config.update_from_flattened_dict({field: value})
  return config


def tiny_search(**fields: Any) -> ConfigDict:
  """Returns the config of a search of a few seconds on digits, with these fields changed."""
  return with_fields(config_lib.search_config(), TINY_SEARCH | fields)


def tiny_training(**fields: Any) -> ConfigDict:
  """Returns the config of a training of a few seconds on digits, with these fields changed."""
  return with_fields(config_lib.train_config(), TINY_TRAINING | fields)


def load_config(path: pathlib.Path, *args: str) -> ConfigDict:
  """Returns the config that a config file makes, with the argument after its colon, if any."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*args)


# ---- the files of a run --------------------------------------------------------------------------


def _of_the_clock(name: str) -> bool:
  return name in ('seconds', 'images_per_second') or name.endswith('_seconds')


def without_clock(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of a `.jsonl` file, without the fields that depend on the clock."""
  return [
    {name: value for name, value in line.items() if not _of_the_clock(name)}
    for line in json_files.read_lines(path)
  ]


def write_classes(path: pathlib.Path, names: Sequence[str]) -> None:
  """Writes a folder of 8 images of 8x8 pixels for each class; classes differ in colour."""
  for i, name in enumerate(names):
    (path / name).mkdir(parents=True)
    for k in range(8):
      Image.new('RGB', (8, 8), (30 * k, 100 * i % 256, 0)).save(path / name / f'{k}.png')


# ---- searches of a bilevel problem ---------------------------------------------------------------


def quadratic(weights: Any, arch: Any, examples: Examples, draw: int = 1) -> Any:
  """|A w + alpha - y|^2 / 2 + |beta - B w|^2 / 2, with the matrices as `images`, y as `labels`."""
  (a, b), y = examples.images, examples.labels
  residual = a @ weights + arch.alpha['normal'] - y
  return 0.5 * (residual**2).sum() + 0.5 * ((arch.beta['normal'] - b @ weights) ** 2).sum()


def tiny_supernet(form: str = 'merged') -> supernet.Supernet:
  """Returns a supernet of one layer, two nodes and two operations, for three classes."""
  names = ('max_pool_3x3', 'dil_conv_3x3')
  return supernet.Supernet(space.SearchSpace(graph.CellGraph(2), names), 2, 1, 3, form=form)


def random_batch(
  key: jax.Array, size: int = 8, shared: bool = False, dtype: Any = np.float32
) -> Batch:
  """Returns random images `[size, 8, 8, 1]` and labels of three classes for each part.

  Args:
    key: of the draws.
    size: images of each part.
    shared: alpha and beta learn from the same images.
    dtype: of the images.
  """

  def examples(key: jax.Array) -> Examples:
    images, labels = jax.random.split(key)
    return Examples(
      jax.random.normal(images, (size, 8, 8, 1), dtype), jax.random.randint(labels, (size,), 0, 3)
    )

  train, alpha, beta = map(examples, jax.random.split(key, 3))
  return Batch(train, alpha, None if shared else beta)


# ---- searches that compile fast ------------------------------------------------------------------

POOL_SPACE = space.SearchSpace(graph.CellGraph(2), ('max_pool_3x3', 'skip_connect'))
POOL_SHAPE = (5, 2)  # edges, operations
# Of the same shape; the gradients of pools take longest to compile.
SKIP_SPACE = space.SearchSpace(graph.CellGraph(2), ('none', 'skip_connect'))


def pool_supernet(of: space.SearchSpace = POOL_SPACE) -> supernet.Supernet:
  """Returns a supernet of one layer, by default without convolutions on edges, for 3 classes."""
  return supernet.Supernet(of, 2, 1, 3, form='merged')


def pool_search(
  rule: Any = None,
  table: Any = topology.output_subsets,
  of: space.SearchSpace = POOL_SPACE,
  **options: Any,
) -> bilevel.Search:
  """Returns a search of a network without convolutions on edges: it compiles fast.

  Args:
    rule: the update rule; None for the first-order one.
    table: makes the topology table from the graph.
    of: the search space.
    options: further arguments of `make_search`.
  """
  options = {
    'weights_tx': optimizers.weights_tx(100, learning_rate=0.1), 'arch_tx': optax.sgd(1.0),
    'penalty_weight': 0.0, 'image_shape': (8, 8, 1),
  } | options  # fmt: skip
  return bilevel.make_search(
    pool_supernet(of), table(of.graph), rule or bilevel.first_order(), **options
  )


def abstract_step(search: bilevel.Search) -> None:
  """Traces a step, and runs nothing."""
  key = jax.random.key(0)
  jax.eval_shape(search.step, jax.eval_shape(search.init, key), random_batch(key), key)


def random_state(search: bilevel.Search) -> bilevel.SearchState:
  """Returns a state with random weights; `search.init` would be compiled for longer."""
  rng = np.random.default_rng(0)
  state = jax.eval_shape(search.init, jax.random.key(0))

  def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.asarray(rng.uniform(-0.1, 0.1, leaf.shape), leaf.dtype)

  return jax.tree.map(jnp.zeros_like, state)._replace(
    params=jax.tree.map(draw, state.params), arch=jax.tree.map(draw, state.arch)
  )


def first_state(search: bilevel.Search, seed: int = 0) -> bilevel.SearchState:
  """Returns a state as at the start of a search, drawn by NumPy: `search.init` compiles long."""
  state, rng = jax.eval_shape(search.init, jax.random.key(0)), np.random.default_rng(seed)
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
  small = lambda leaf: jnp.asarray(1e-3 * rng.normal(size=leaf.shape), leaf.dtype)
  return zeros._replace(
    params=jax.tree.map(jnp.asarray, small_networks.drawn(state.params, seed)),
    arch=jax.tree.map(small, state.arch),
    batch_stats=jax.tree.map(jnp.asarray, small_networks.drawn(state.batch_stats)),
  )


def assert_same_states(first: Any, second: Any, atol: float = 1e-6) -> None:
  """Asserts that two states are close, their numbers of steps aside."""
  chex.assert_trees_all_close(first._replace(step=0), second._replace(step=0), atol=atol)


# ---- costs, and comparisons with other programs --------------------------------------------------


def count_multiply_adds(jaxpr: Jaxpr) -> int:
  """Returns the multiply-adds of all convolutions and matrix products of a program."""
  total = 0
  for equation in jaxpr.eqns:
    for inner in equation.params.values():
      total += count_multiply_adds(inner.jaxpr) if hasattr(inner, 'jaxpr') else 0
    shapes = [variable.aval.shape for variable in equation.invars]
    out = int(np.prod(equation.outvars[0].aval.shape))
    if equation.primitive.name == 'conv_general_dilated':
      total += out * int(np.prod(shapes[1][:3]))
    elif equation.primitive.name == 'dot_general':
      total += out * shapes[0][-1]
  return total


# Facts of a machine, as a comparison writes them.
FACTS = {
  'date': '2026-01-02T03:04:05+00:00', 'git_commit': 'abc',
  'machine': {'cpu': 'Abacus', 'cores': 2, 'gpu': None},
  'versions': {'jax': '1.2', 'torch': None}, 'ours': [], 'peer': ['--dtype=bfloat16'],
}  # fmt: skip


def figures(step: float, peak: float = 100.0) -> dict[str, Any]:
  """Returns the figures of one timed program: seconds of a step, and peak memory in MB."""
  return {
    'median_step_seconds': step, 'compile_seconds': 20.0, 'trace_seconds': 4.0,
    'peak_memory_mb': peak, 'step_seconds': [step] * 3,
  }  # fmt: skip


def check_same_work(row: Any) -> None:
  """Asserts that both programs of a row of the comparison are told to do the same work."""
  options = command_line.start_options(True, False) + benchmark.OPTIONS
  args = command_line.parse(['benchmark', *row.ours], True, options, ())
  config, mode = args.config, row.peer[0]
  peer = dict(word[2:].split('=') if '=' in word else (word[2:], '') for word in row.peer[1:])
  assert int(peer['channels']) == config.model.channels
  assert int(peer['layers']) == config.model.num_layers
  assert int(peer['batch']) == config[mode].batch_size
  grey = config.data.name == 'digits'
  assert int(peer.get('image-size', 32)) == (config.data.image_size or 32)
  assert int(peer.get('colours', 3)) == (1 if grey else 3)
  if mode == 'train':
    assert peer['genotype'] == args.genotype
    assert ('auxiliary' in peer) == config.model.auxiliary
    assert float(peer['drop-path']) == config.train.drop_path
    return
  assert peer.get('space', 'darts') == config.space.name
  if config.space.name == 'darts':
    assert int(peer['nodes']) == config.space.num_intermediate
    assert peer['ops'] == ('8' if config.space.with_none else '7')
  else:
    assert config.space.with_none
  assert peer.get('rule', 'first_order') == config.rule.kind
  assert int(peer.get('partial', 1)) == config.model.partial_channels
  assert config.data.split == 'two_way' and config.model.dtype == 'float32'
