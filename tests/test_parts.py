"""A researcher's own objects from a config file."""

import pytest

from stretchnas_jax.cells import topology
from stretchnas_jax.cli import config_flags
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
