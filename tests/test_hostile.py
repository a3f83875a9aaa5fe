"""Tests of hostile input: one sentence, and never a traceback, a hang or foreign code."""

import json
import logging
import os
import resource
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.reliability import corpus, hostile
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype
from stretchnas_jax.data.datasets import dataset, images
from stretchnas_jax.runs import build, find_cell
from stretchnas_jax.views import cells, svg

pytestmark = pytest.mark.filterwarnings('ignore')  # Pillow warns about strange files


@pytest.fixture
def quiet():
  """Turns logging off, since pytest-xdist cannot send file names that are not valid text."""
  logging.disable()
  yield
  logging.disable(logging.NOTSET)


@pytest.mark.usefixtures('quiet')
@pytest.mark.parametrize('block', range(8))
def test_readers_read_or_refuse(block):
  for seed in range(100 * block, 100 * block + 100):
    name, outcome, _ = hostile.trial(seed)
    assert outcome in hostile.GOOD, f'seed {seed}: {name}: {outcome}'


def test_a_campaign_can_fail(monkeypatch):
  def fail(place, rng):
    raise {0: KeyError, 1: RecursionError, 2: ValueError}[rng.seed]

  monkeypatch.setattr(hostile, 'READERS', (fail,))
  for number, outcome in enumerate(['KeyError', 'RecursionError', None]):
    monkeypatch.setattr(
      hostile.np.random, 'default_rng', lambda _, n=number: type('', (), {'seed': n})
    )
    found = hostile.trial(0)[1]
    assert found == ('refused' if outcome is None else f'traceback: {outcome} in fail')


READABLE = {
  'rgb', 'sixteen', 'palette', 'one_bit', 'alpha', 'cmyk', 'lab', 'animated', 'turned', 'tiny',
  'thin', 'text',
}  # fmt: skip


@pytest.mark.parametrize(
  'name, data', corpus.images(), ids=lambda x: x if isinstance(x, str) else ''
)
def test_every_image_of_the_corpus_is_read_or_named(tmp_path, name, data):
  (tmp_path / name).write_bytes(data)
  if name.split('.')[0] in READABLE:
    assert images.read(tmp_path / name, 8).shape == (8, 8, 3)
  else:
    with pytest.raises(OSError, match=f'{name} is not a readable image') as caught:
      images.read(tmp_path / name, 8)
    assert isinstance(caught.value, ValueError) and '\n' not in str(caught.value)


def test_bombs_cost_no_memory(tmp_path):
  (tmp_path / 'bomb.png').write_bytes(corpus.bomb(20_000, 20_000))
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(ValueError, match='pixels'):
    images.read(tmp_path / 'bomb.png', 8)
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


def test_reading_never_waits_for_a_pipe_or_a_device(tmp_path):
  os.mkfifo(tmp_path / 'pipe.png')
  os.symlink('/dev/zero', tmp_path / 'endless.png')
  os.symlink('loop.png', tmp_path / 'loop.png')
  for name in ('pipe.png', 'endless.png', 'loop.png'):
    with pytest.raises(ValueError, match=f'{name} is not a readable image'):
      images.read(tmp_path / name, 8)
  for name in ('pipe.png', 'endless.png'):
    with pytest.raises(ValueError, match='not a regular file'):
      find_cell.genotype_from(tmp_path / name)
  with open(tmp_path / 'long', 'wb') as file:
    file.truncate(10**12)
  with pytest.raises(ValueError, match='has 1000000000000 bytes; a genotype has at most'):
    find_cell.genotype_from(tmp_path / 'long')


def test_a_program_with_the_name_of_an_image_is_not_run(tmp_path, monkeypatch):
  """By default Pillow passes PostScript to another program."""
  monkeypatch.setattr('subprocess.Popen', lambda *args, **kwargs: pytest.fail('a program ran'))
  with pytest.raises(ValueError, match='not a readable image'):
    (tmp_path / 'x.png').write_bytes(dict(corpus.images())['program.png'])
    images.read(tmp_path / 'x.png', 8)


@given(st.integers(-(2**70), 2**70))
def test_labels_out_of_range_are_named(label):
  pictures = np.zeros((2, 4, 4, 1), np.uint8)
  arrays = {'train_images': pictures, 'train_labels': [0, label]}
  if 0 <= label < 3:
    dataset.make_dataset('x', arrays, 'abc')
  else:
    with pytest.raises(ValueError, match='labels'):
      dataset.make_dataset('x', arrays, 'abc')


@settings(max_examples=20)  # each example draws two pictures
@given(st.text(max_size=30), st.text('<>&"\'[]!-ab\x00\ud800', min_size=1, max_size=30))
def test_text_is_never_markup(title, operation):
  edges = ((operation, 0, 2),)
  cell = genotype.Genotype(edges, (2,), edges, (2,)) if operation != 'none' else None
  root = ElementTree.fromstring(cells.svg(cell, title=title).encode())
  tags = {element.tag.split('}')[-1] for element in root.iter()}
  assert tags <= {'svg', 'rect', 'path', 'polygon', 'text', 'tspan'}
  allowed = svg.printable(operation).replace('\t', ' ')
  texts = [''.join(element.itertext()) for element in root.iter() if element.tag.endswith('text')]
  assert sum(text == allowed for text in texts) >= 2 or '\r' in operation


json_values = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
  ),
  max_leaves=4,
)


@given(st.data())
def test_any_value_of_a_config_is_accepted_or_named(data):
  config = data.draw(st.sampled_from([config_lib.search_config, config_lib.train_config]))()
  values = json.loads(config.to_json_best_effort())
  group = data.draw(st.sampled_from([values, *(v for v in values.values() if isinstance(v, dict))]))
  group[data.draw(st.sampled_from(list(group)) | st.text(max_size=5))] = data.draw(json_values)
  try:
    config_lib.updated(config, values, build.CHOICES)
  except ValueError as error:
    assert len(str(error)) < 3000
