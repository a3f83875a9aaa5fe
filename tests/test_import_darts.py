"""Weights of DARTS' PyTorch code become networks and runs."""

import json
import pickle
import struct

import jax
import numpy as np
import pytest
from helpers import TINY_CELL, tiny_training
from test_export_forms import IRREGULAR

import stretchnas_jax
from stretchnas_jax import import_darts as command
from stretchnas_jax.cells import zoo
from stretchnas_jax.networks import darts_weights
from stretchnas_jax.runs import evaluation, import_darts, safetensors_file, weight_files

DARTS = zoo.GENOTYPES['DARTS_V2']
CASES = [(DARTS, 'cifar', 32), (IRREGULAR, 'cifar', 8), (IRREGULAR, 'imagenet', 64)]


def of_torch(cell, stem, channels=4, layers=3, classes=5, auxiliary=True):
  pytest.importorskip('torch')
  import darts_torch
  import torch

  torch.manual_seed(0)
  return darts_torch.Network(cell, channels, layers, classes, stem, auxiliary).eval()


def weights_of(cell=TINY_CELL, layers=1, classes=10, colours=1):
  """Returns random weights of a network by the names of DARTS' code, made without PyTorch."""
  sizes = darts_weights.Sizes(2, layers, classes, 'cifar', False, colours)
  net = darts_weights.network_of(sizes, cell)
  like = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, 8, 8, colours), np.float32))
  paths = {
    '/'.join(str(key.key) for key in path[1:]): leaf.shape
    for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]
  }
  rng = np.random.default_rng(0)
  turn = lambda array: array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0)[-array.ndim :])
  return {
    name: turn(np.float32(rng.uniform(0.5, 1, paths[path])))
    for path, name in darts_weights._names(list(paths), 'cifar')
  }


@pytest.mark.parametrize('cell, stem, side', CASES)
def test_the_logits_are_those_of_pytorch(cell, stem, side, tmp_path):
  theirs = of_torch(cell, stem)
  import torch

  net, variables = stretchnas_jax.load_darts(theirs.state_dict(), cell)
  assert (net.channels, net.num_layers, net.num_classes) == (4, 3, 5)
  assert net.stem == stem and net.auxiliary and 'auxiliary_head' in variables['params']
  images = np.float32(np.random.default_rng(1).normal(size=(2, side, side, 3)))
  with torch.no_grad():
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
  found = np.asarray(net.apply(variables, images))
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
  torch.save({'epoch': 3, 'state_dict': theirs.state_dict()}, tmp_path / 'model.pth.tar')
  again = stretchnas_jax.load_darts(tmp_path / 'model.pth.tar', cell)[1]
  jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_tensors_of_any_kind_are_read():
  torch = pytest.importorskip('torch')
  given = {name: torch.tensor(array) for name, array in weights_of().items()}
  _, expected = stretchnas_jax.load_darts(given, TINY_CELL)
  _, found = stretchnas_jax.load_darts(
    {name: torch.nn.Parameter(x) for name, x in given.items()}, TINY_CELL
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  _, found = stretchnas_jax.load_darts(
    {name: x.to(torch.bfloat16) for name, x in given.items()}, TINY_CELL
  )
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2**-8), found, expected)


def test_a_pickle_with_a_program_is_not_run(tmp_path):
  torch = pytest.importorskip('torch')
  ran = tmp_path / 'ran'

  class Evil:
    def __reduce__(self):
      return (ran.write_text, ('x',))

  torch.save({'stem.0.weight': Evil()}, tmp_path / 'evil.pt')
  (tmp_path / 'plain.pt').write_bytes(pickle.dumps(Evil()))
  for name in ('evil.pt', 'plain.pt'):
    with pytest.raises(ValueError, match='programs in it are never run'):
      weight_files.read(tmp_path / name)
  assert not ran.exists()


def test_an_old_pytorch_reads_no_checkpoint(tmp_path, monkeypatch):
  torch = pytest.importorskip('torch')
  monkeypatch.setattr(torch, '__version__', '2.5.1+cpu')
  torch.save({}, tmp_path / 'm.pt')
  with pytest.raises(ValueError, match='not read by PyTorch 2.5.1.cpu, .* install 2.6 or'):
    weight_files.read(tmp_path / 'm.pt')


def test_safetensors_need_no_pytorch(tmp_path):
  weights = weights_of(layers=3)
  (tmp_path / 'm.safetensors').write_bytes(
    safetensors_file.content({f'module.{name}': x for name, x in weights.items()}, {})
  )
  net, variables = import_darts.load_darts(tmp_path / 'm.safetensors', TINY_CELL)
  kernel = variables['params']['cell_1']['edge_1']['odd']['kernel']
  np.testing.assert_array_equal(kernel[0, 0].T, weights['cells.1._ops.1.conv_2.weight'][:, :, 0, 0])
  mean = variables['batch_stats']['cell_0']['enter_0']['norm']['mean']
  np.testing.assert_array_equal(mean, weights['cells.0.preprocess0.op.2.running_mean'])
  assert (net.num_layers, net.auxiliary) == (3, False)


@pytest.mark.parametrize(
  'change, words',
  [
    ({'cells.0._ops.0.op.3.bias': None}, r'lack cells\.0\._ops\.0\.op\.3\.bias; does the genotype'),
    (
      {'cells.0._ops.0.op.1.weight': np.zeros((2, 1, 5, 5))},
      r'op\.1\.weight has the shape \[2, 1, 5, 5\], and the genotype needs \[4, 1, 3, 3\]',
    ),
    ({'cells.0._ops.2.op.1.weight': np.zeros(3)}, r'has no cells\.0\._ops\.2\.op\.1\.weight; does'),
    ({'classifier.bias': np.full(10, np.nan)}, 'classifier.bias has a number that is not finite'),
    ({'classifier.weight': None}, 'not of a network .* DARTS: classifier.weight is missing'),
  ],
)
def test_a_wrong_weight_is_named(change, words):
  weights = {**weights_of(), **change}
  weights = {name: array for name, array in weights.items() if array is not None}
  with pytest.raises(ValueError, match=words):
    import_darts.load_darts(weights, TINY_CELL)


def header(about):
  text = json.dumps(about).encode()
  return struct.pack('<Q', len(text)) + text


@pytest.mark.parametrize(
  'data, words',
  [
    (b'', 'unpack'),
    (struct.pack('<Q', 2**62) + b'{}', 'header is longer'),
    (header({'a': {'dtype': 'F32', 'shape': [9], 'data_offsets': [0, 36]}}), 'outside of the file'),
    (header({'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 0]}}), '0 numbers'),
    (header({'a': {'dtype': 'X', 'shape': [0], 'data_offsets': [0, 0]}}), "type 'X'"),
    (header([]), 'safetensors'),
    (header({'a': 3}), 'safetensors'),
  ],
)
def test_damaged_safetensors_are_named(tmp_path, data, words):
  (tmp_path / 'm.safetensors').write_bytes(data)
  with pytest.raises(ValueError, match=f'not a whole file of safetensors: .*{words}|{words}'):
    weight_files.read(tmp_path / 'm.safetensors')


def test_an_imported_run_is_measured_and_trained(tmp_path, monkeypatch, capsys):
  weights, config = weights_of(), tiny_training(**{'train.epochs': 1})
  path = tmp_path / 'run'
  import_darts.planned(weights, TINY_CELL, config, path)()
  apply_fn, variables, info = stretchnas_jax.load_trained(path)
  kernel = variables['params']['classifier']['kernel']
  np.testing.assert_array_equal(kernel.T, weights['classifier.weight'])
  assert info['step'] == 0 and len(info['class_names']) == 10
  evaluation.prepare_evaluation(path)()
  measured = json.loads(capsys.readouterr().out)
  assert 0 <= measured['test_accuracy'] <= 1 and measured['step'] == 0
  with pytest.raises(ValueError, match='is not empty: choose another'):
    import_darts.planned(weights, TINY_CELL, config, path)
  with pytest.raises(ValueError, match='weights have 7 classes; digits has 10'):
    import_darts.planned(weights_of(classes=7), TINY_CELL, config, tmp_path / 'x')
  with pytest.raises(ValueError, match='of 3 channels; those of digits have 1'):
    import_darts.planned(weights_of(colours=3), TINY_CELL, config, tmp_path / 'x')
  assert not (tmp_path / 'x').exists() and command.OPTIONS[0].name == 'genotype'
  made = json.loads((path / 'config.json').read_text())
  config.update_from_flattened_dict({f'model.{k}': v for k, v in made['model'].items()})
  result = stretchnas_jax.run_train(config, path, TINY_CELL)
  assert result['epochs'] == 1
