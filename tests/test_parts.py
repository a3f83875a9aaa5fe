"""A researcher's own objects from a config file."""

import pytest

from stretchnas_jax.cells import decodings, topology
from stretchnas_jax.cli import config_flags
from stretchnas_jax.learning.monitors import Monitor
from stretchnas_jax.runs import parts

CONFIG = """
from ml_collections import ConfigDict
from stretchnas_jax.cells import topology

def get_config(pairs='output'):
  return ConfigDict({'pairs': pairs})
"""
PARTS = """
def get_parts(config):
  return {'topology': getattr(topology, f'{config.pairs}_pairs')}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  """A cache folder of the test, since programs that ran are remembered there."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def from_file(path, argument=''):
  """The objects of a config file, as a command reads them."""
  source = f'{path}{argument}'
  return parts.from_config_file(source, config_flags.load_config(source))


def zero(arch, op_weights, edge_scores, knobs):
  return 0.0


STOP = Monitor(lambda space: {}, lambda arch, control, line, genotype: control)


@pytest.mark.parametrize(
  'own, words',
  [
    ({'space': ('skip_connect',)}, 'space of the type tuple; it must be a SearchSpace'),
    ({'operations': [zero]}, 'operations of the type list; it must be a dict of functions'),
    ({'operations': {'gate': 3}}, 'operations of the type dict; it must be a dict of functions'),
    ({'topology': 'pairs'}, 'topology of the type str; it must be a TopologyTable, or a function'),
    ({'relaxation': zero}, 'relaxation of the type function; it must be a Relaxation'),
    ({'rule': 'mixed'}, 'rule of the type str; it must be a Rule, or a function'),
    ({'penalties': zero}, 'penalties of the type function; it must be a tuple, such as'),
    ({'penalties': [zero, 3]}, r'penalties\[1\] of the type int; it must be a function'),
    ({'knobs': {'x': 1}}, 'knobs of the type dict; it must be a function of the step'),
    ({'decoding': {'normal': 2}}, 'decoding of the type dict; it must be a function, or a dict of'),
    ({'alpha_tx': 0.1}, 'alpha_tx of the type float; it must be an optax transformation'),
    ({'phases': {'epochs': 1}}, 'phases of the type dict; it must be a tuple'),
    ({'phases': (3,)}, r'phases\[0\] of the type int; it must be a dict'),
    ({'monitors': STOP}, 'monitors of the type Monitor; it must be a tuple, such as'),
    ({'monitors': (zero,)}, r'monitors\[0\] of the type function; it must be a Monitor'),
  ],
)
def test_an_object_of_the_wrong_kind_is_named(own, words):
  with pytest.raises(ValueError, match=f'^parts has {words}') as caught:
    parts.Parts.of(own)
  assert '\n' not in str(caught.value)


def test_objects_of_the_right_kind_and_none_are_taken():
  none = parts.Parts.of({'penalties': None, 'rule': None})
  assert none == parts.Parts()
  found = parts.Parts.of({'penalties': (zero,), 'monitors': (STOP,), 'topology': topology.none})
  assert set(found.names()) == {'penalties', 'monitors', 'topology'}
  rules = {'normal': decodings.capped(), 'reduce': None}
  assert parts.Parts.of({'decoding': rules}).decoding is rules


def test_a_phase_takes_its_own_objects_and_leaves_the_others():
  search = parts.Parts.of({'penalties': (zero,), 'topology': topology.none})
  found = search.in_phase({'topology': topology.input_pairs, 'penalties': None})
  assert found == parts.Parts(penalties=(zero,), topology=topology.input_pairs)


def test_a_config_file_gives_objects_for_its_argument(tmp_path):
  path = tmp_path / 'own.py'
  path.write_text(CONFIG + PARTS)
  assert from_file(path).topology is topology.output_pairs
  found = from_file(path, ':input')
  assert found.topology is topology.input_pairs
  assert found.names()['topology'].endswith('.input_pairs')


def test_a_config_file_without_objects_gives_none(tmp_path):
  path = tmp_path / 'plain.py'
  path.write_text(CONFIG)
  assert from_file(path, ':input') == parts.Parts()


@pytest.mark.parametrize(
  'text, message',
  [
    ('def get_parts(config):\n  return 3\n', 'returns a int, not a dict or Parts'),
    ("def get_parts(config):\n  return {'topologies': 3}\n", "parts has 'topologies'"),
  ],
)
def test_wrong_objects_are_named(tmp_path, text, message):
  path = tmp_path / 'wrong.py'
  path.write_text(CONFIG + text)
  with pytest.raises(ValueError, match=message):
    from_file(path)
