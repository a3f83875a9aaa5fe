"""Trained networks in forms that need no JAX."""

import functools
import importlib.util
import json
import struct
import sys
from unittest import mock

import jax
import numpy as np
import pytest
from helpers import TINY_CELL
from past_runs import write_search

from stretchnas_jax import export
from stretchnas_jax.cells import genotype, zoo
from stretchnas_jax.networks import network
from stretchnas_jax.runs import (
  export_forms,
  export_onnx,
  export_torch,
  safetensors_file,
  trained,
)
from stretchnas_jax.views import dot

IRREGULAR = genotype.Genotype(
  (('sep_conv_3x3', 0, 2), ('sep_conv_3x3', 0, 2), ('skip_connect', 2, 5), ('dil_conv_5x5', 1, 7)),
  (7, 5),
  (('avg_pool_3x3', 1, 3), ('conv_7x1_1x7', 3, 4), ('skip_connect', 0, 4), ('max_pool_3x3', 0, 6)),
  (4, 6),
)
EVIL = ['</script>"""\n', '\x1b[31m', '\u202e', "'\\", 'd']


@functools.cache
def made(cell, stem='cifar', channels=4, layers=3, shape=(9, 11, 3), seed=0):
  """A network with random weights and averages, as an export reads it from a run."""
  net = network.FixedNetwork(cell, channels, layers, len(EVIL), stem, form='plain')
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (2, *shape), np.uint8)
  mean, std = np.float32([0.4] * shape[2]), np.float32([0.3] * shape[2])
  like = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, *shape), np.float32))
  draw = lambda path, leaf: np.float32(
    rng.uniform(0.5, 1.5, leaf.shape)
    if str(path[-1].key) in ('var', 'scale')
    else rng.normal(0, 0.3, leaf.shape)
  )
  variables = jax.tree_util.tree_map_with_path(draw, like)
  info = {
    'class_names': EVIL, 'image_shape': shape, 'mean': mean, 'std': std, 'genotype': cell,
  }  # fmt: skip
  model = {'channels': channels, 'num_layers': layers, 'stem': stem}
  logits = np.asarray(net.apply(variables, (np.float32(images) / 255 - mean) / std))
  return export_forms.Network(export_forms.flat(variables), info, model, images, logits)


def torch_files(found):
  about = export_forms.about(found)
  return export_torch.files(found.info, found.model, found.arrays, about)


CASES = [
  (TINY_CELL, 'cifar'), (IRREGULAR, 'cifar'), (IRREGULAR, 'imagenet'),
  *(
    pytest.param(cell, stem, id=f'{name}-{stem}', marks=() if often else pytest.mark.long)
    for i, (name, cell) in enumerate(zoo.GENOTYPES.items())
    for stem, often in (('cifar', i % 6 == 0), ('imagenet', False))
  ),
]  # fmt: skip


@pytest.mark.parametrize('cell, stem', CASES)
def test_torch_gives_the_same_logits(cell, stem):
  pytest.importorskip('torch')
  found = made(cell, stem, shape=(37, 40, 3) if stem == 'imagenet' else (9, 11, 3))
  program, weights = torch_files(found)
  logits = export_torch.logits(program, weights, found.images)
  assert 'at most' in export_forms.checked(logits, found.logits, 'torch')


@pytest.mark.parametrize('cell, stem', CASES)
def test_onnx_gives_the_same_logits(cell, stem):
  pytest.importorskip('onnxruntime')
  found = made(cell, stem, shape=(37, 40, 3) if stem == 'imagenet' else (9, 11, 3))
  logits = export_onnx.logits(export_forms.onnx_file(found), found.images)
  assert 'at most' in export_forms.checked(logits, found.logits, 'onnxruntime')


def test_the_program_is_plain_ascii_and_holds_any_class_name():
  program, _ = torch_files(made(TINY_CELL))
  text = program.decode('ascii')
  names = [line for line in text.splitlines() if line.startswith('CLASS_NAMES')]
  assert len(names) == 1 and '</script>' in names[0] and '\x1b' not in text
  imports = [line.split()[1].split('.')[0] for line in text.splitlines()
             if line.startswith(('import ', 'from '))]  # fmt: skip
  assert set(imports) == {'json', 'pathlib', 'struct', 'torch'}


def test_a_file_of_safetensors_is_as_the_format_says(tmp_path):
  arrays = {'a/b': np.arange(6, dtype=np.float32).reshape(2, 3), 'c': np.float32([7])}
  data = safetensors_file.content(arrays, {'x': 'y'})
  (length,) = struct.unpack('<Q', data[:8])
  header = json.loads(data[8 : 8 + length])
  assert length % 8 == 0 and header['__metadata__'] == {'x': 'y'}
  assert header['a/b'] == {'dtype': 'F32', 'shape': [2, 3], 'data_offsets': [0, 24]}
  np.testing.assert_array_equal(np.frombuffer(data[8 + length :], '<f4'), [*range(6), 7])
  if importlib.util.find_spec('safetensors'):
    from safetensors.numpy import load

    np.testing.assert_array_equal(load(data)['a/b'], arrays['a/b'])


def test_other_logits_are_refused():
  with pytest.raises(ValueError, match='differ by up to 0.5; nothing was written'):
    export_forms.checked(np.float32([[0, 1.5]]), np.float32([[0, 1]]), 'torch')
  with pytest.raises(ValueError, match='differ'):
    export_forms.checked(np.float32([[np.nan]]), np.float32([[1]]), 'torch')
  assert 'torch is not installed' in export_forms.checked(None, np.zeros((1, 1)), 'torch')


def test_cells_as_graphviz(tmp_path):
  write_search(tmp_path / 'r')
  out = tmp_path / 'cells.dot'
  for _ in range(2):
    export_forms.export_as(tmp_path / 'r', out, 'dot')
  text = out.read_text()
  assert text.count('subgraph') == 2 and text.count('{') == text.count('}')
  assert 'normal_0 -> normal_2 [label="sep_conv_3x3"]' in dot.dot(IRREGULAR)
  odd = genotype.Genotype([('a"\n\\', 0, 2)], (2,), [('b', 0, 2)], (2,))
  assert r'label="a\"\\n\\\\"' in dot.dot(odd) or '\n\\' not in dot.dot(odd)


@pytest.mark.parametrize(
  'out, to, expected',
  [
    ('m.stablehlo', None, 'stablehlo'),
    ('m.py', None, 'torch'),
    ('m', 'dot', 'dot'),
    ('m.safetensors', None, 'safetensors'),
  ],
)
def test_the_ending_tells_the_form(out, to, expected):
  assert export_forms.form_of(out, to) == expected


def test_a_form_that_cannot_hold_a_run_is_one_line(tmp_path, capsys, monkeypatch):
  write_search(tmp_path / 'r')
  path = tmp_path / 'm.safetensors'
  monkeypatch.setattr(sys, 'argv', ['export', str(tmp_path / 'r'), f'--out={path}'])
  monkeypatch.setattr(trained, 'read_run', lambda *args, **options: mock.Mock(kind='search'))
  with pytest.raises(SystemExit, match='2'):
    export.main()
  (line,) = capsys.readouterr().err.splitlines()
  assert line.endswith('is a search: only --to=stablehlo holds its supernet')
  assert not path.exists()


def test_wrong_arguments_are_named(tmp_path):
  with pytest.raises(ValueError, match='--to is .*; it must be one of stablehlo, torch'):
    export_forms.form_of('m', 'tensorflow')
  with pytest.raises(ValueError, match='must end in .py'):
    export_forms.check_paths(tmp_path / 'm.txt', 'torch')
  (tmp_path / 'm.safetensors').write_text('mine')
  with pytest.raises(ValueError, match='did not write'):
    export_forms.check_paths(tmp_path / 'm.py', 'torch')
  assert [option.name for option in export.OPTIONS][:2] == ['out', 'to']
