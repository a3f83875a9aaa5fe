"""The method of a search in words, for its page: a reader may not know the names of the config."""

from stretchnas_jax.runs.overview import Overview
from stretchnas_jax.runs.report_parts import field
from stretchnas_jax.views import page

# Fields that name a choice of a method, with the words for them.
_KINDS = {
  'space.name': 'search space', 'topology.kind': 'topology', 'relaxation.kind': 'relaxation',
  'rule.kind': 'rule', 'decoding.kind': 'decoding', 'data.split': 'split of the data',
  'model.num_layers': 'cells', 'space.num_intermediate': 'nodes of a cell',
  'model.channels': 'C of the first cells',
}  # fmt: skip

# The names of choices, and their meanings.
_NAMES = {
  'none': 'strongest edges', 'input_pairs': 'pairs of in-edges',
  'output_pairs': 'pairs of out-edges', 'output_subsets': 'stretchable cells',
  'k_subsets': 'sets of k edges', 'first_order': 'first order', 'second_order': 'second order',
  'mixed': 'mixed level', 'one_level': 'one level',
}  # fmt: skip
_MEANINGS = {
  'topology.kind': {
    'none': 'the strongest operations tell the edges',
    'input_pairs': 'each node chooses two in-edges',
    'output_pairs': 'each node chooses two out-edges',
    'output_subsets': 'stretchable cells: each node chooses any set of its out-edges',
    'k_subsets': 'each node chooses k of its edges',
  },
  'rule.kind': {
    'first_order': 'the cell learns from validation images, the weights from training images',
    'second_order': 'as first order, and the cell looks one step of the weights ahead',
    'mixed': 'the cell learns from training and validation images together',
    'one_level': 'the cell and the weights learn from the same loss',
  },
  'decoding.kind': {'auto': 'the usual one of the topology'},
  'data.split': {
    'three_way': 'weights, operations and edges each learn from a third of their own',
    'two_way': 'the weights learn from one half, operations and edges from the other',
    'one_way': 'all learn from all training images',
  },
}


def name_of(run: Overview) -> str:
  """Returns the method in a few words: its topology, relaxation and rule, or parts of its own."""
  own = run.config.get('parts')
  words = []
  for part in ('topology', 'relaxation', 'rule'):
    kind = field(dict(run.config), f'{part}.kind')
    if isinstance(own, dict) and own.get(part):
      words.append(f'{part} of its own')
    elif isinstance(kind, str):
      words.append(_NAMES.get(kind, kind.replace('_', ' ')))
  return ', '.join(words) or 'unknown'


def facts(run: Overview) -> str:
  """Returns the choices that make up the method, each with its meaning."""
  words = dict(_KINDS)
  if field(dict(run.config), 'space.name') == 'nas_bench_201':  # it has a graph of its own
    words = {**words, 'model.num_layers': 'cells of a stage'}
    del words['space.num_intermediate']
  return page.facts((word, _with_meaning(run, name)) for name, word in words.items())


def _with_meaning(run: Overview, name: str) -> str | None:
  value = field(dict(run.config), name)
  own = run.config.get('parts')
  if isinstance(own, dict) and name.endswith('.kind') and own.get(name.removesuffix('.kind')):
    return 'an object of its own'
  meaning = _MEANINGS.get(name, {}).get(value) if isinstance(value, str) else None
  return f'{value} ({meaning})' if meaning else None if value is None else str(value)
