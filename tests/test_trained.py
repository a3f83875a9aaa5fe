"""Use of what a run has learned: loading, predictions, export."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from helpers import TINY_CELL, with_fields
from PIL import Image

import stretchnas_jax
from stretchnas_jax import config as config_lib
from stretchnas_jax import network
from stretchnas_jax.data.datasets import loading
from stretchnas_jax.runs import (
  checkpoint,
  export,
  export_forms,
  search_task,
  supernet_accuracy,
  train_plan,
  train_task,
)
from stretchnas_jax.runs import trained as trained_lib
from stretchnas_jax.runs.history import load_history

TINY = {
  'data.name': 'digits', 'data.image_size': 8, 'data.crop_padding': 1, 'data.flip': False,
  'data.cutout': 0, 'data.fraction': 0.4, 'model.channels': 4, 'model.num_layers': 1,
  'model.auxiliary': False, 'train.epochs': 2, 'train.batch_size': 32, 'train.drop_path': 0.0,
  'weights.learning_rate': 0.2, 'parallel.backend': 'single',
}  # fmt: skip
SEARCH = {
  'data.name': 'digits', 'data.image_size': 8, 'data.fraction': 0.2, 'space.num_intermediate': 1,
  'model.channels': 2, 'model.num_layers': 1, 'model.form': 'merged', 'rule.kind': 'one_level',
  'search.epochs': 1, 'search.batch_size': 32, 'parallel.backend': 'single',
}  # fmt: skip


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  path = tmp_path_factory.mktemp('trained') / 'run'
  config = with_fields(config_lib.train_config(), TINY)
  return path, stretchnas_jax.run_train(config, path, TINY_CELL)


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
  path = tmp_path_factory.mktemp('searched') / 'run'
  config = with_fields(config_lib.search_config(), SEARCH)
  return path, stretchnas_jax.run_search(config, path)


@pytest.fixture(scope='module')
def annealed(tmp_path_factory):
  """A search whose temperatures and auxiliary skips change with the epoch."""
  path = tmp_path_factory.mktemp('annealed') / 'run'
  fields = SEARCH | {
    'relaxation.annealing': 'exponential', 'relaxation.temperature': 0.5,
    'relaxation.final_temperature': 0.1, 'topology.annealed': True,
    'relaxation.init_scale': 1.0, 'model.auxiliary_skip': True,
    'model.auxiliary_annealing': 'linear_beyond', 'search.epochs': 2,
  }  # fmt: skip
  stretchnas_jax.run_search(with_fields(config_lib.search_config(), fields), path)
  return path


@pytest.fixture(scope='module')
def digits():
  return loading.load('digits', image_size=8)


def test_a_trained_network_is_as_accurate_as_its_result_says(trained, digits):
  path, result = trained
  apply_fn, variables, info = stretchnas_jax.load_trained(path)
  logits = jax.jit(apply_fn)(variables, digits.test_images)
  assert logits.shape == (360, 10) and logits.dtype == np.float32
  accuracy = (np.asarray(logits).argmax(-1) == digits.test_labels).mean()
  assert accuracy == pytest.approx(result['test_accuracy']) and accuracy > 0.2
  assert (info['kind'], info['genotype'], info['image_shape']) == ('train', TINY_CELL, (8, 8, 1))
  assert info['class_names'] == digits.class_names
  assert info['metrics']['test_accuracy'] == result['test_accuracy'] and info['step'] == 34
  assert info['config']['train']['epochs'] == 2


def test_weights_of_an_epoch_that_stays_can_be_loaded(tmp_path):
  few = {'checkpoint.keep': 1, 'search.epochs': 5}
  config = with_fields(config_lib.search_config(), SEARCH | few)
  config.checkpoint.keep_every_epochs = 2
  weights = {}

  def keep(line, state):
    weights[line['step']] = jax.device_get(state.params)

  stretchnas_jax.run_search(config, tmp_path / 'run', on_epoch=keep)
  ends = sorted(weights)
  assert supernet_accuracy.saved_steps(tmp_path / 'run') == [ends[4], ends[3], ends[1]]
  for step in (ends[1], ends[3]):
    _, variables, info = stretchnas_jax.load_trained(tmp_path / 'run', step=step)
    assert (info['step'], info['metrics']['step']) == (step, step)
    jax.tree.map(np.testing.assert_array_equal, variables['params'], weights[step])
  with supernet_accuracy.opened(tmp_path / 'run', step=ends[1]) as net:
    measured = net.of(net.mixture()).accuracy
  (line,) = [one for one in load_history(tmp_path / 'run').lines if one['step'] == ends[1]]
  assert measured == pytest.approx(line['val_accuracy'])
  words = (
    f'no checkpoint of step {ends[0]}; those that are there are of steps {ends[4]}, {ends[3]}, '
  )
  with pytest.raises(FileNotFoundError, match=words):
    stretchnas_jax.load_trained(tmp_path / 'run', step=ends[0])
  description = tmp_path / 'run' / 'checkpoints' / str(ends[1]) / 'meta' / 'metadata'
  description.write_text(description.read_text().replace('1', '2'))
  with pytest.raises(checkpoint.Unusable, match=f'checkpoint {ends[1]} is damaged'):
    stretchnas_jax.load_trained(tmp_path / 'run', step=ends[1])


def test_images_are_normalised_as_documented(trained, digits):
  apply_fn, variables, info = stretchnas_jax.load_trained(trained[0])
  images = digits.test_images[:5]
  normal = (images / 255 - info['mean']) / info['std']
  net = network.FixedNetwork(TINY_CELL, 4, 1, 10)
  expected = net.apply(variables, np.float32(normal))
  np.testing.assert_allclose(apply_fn(variables, images), expected, atol=1e-5)
  np.testing.assert_allclose(apply_fn(variables, images / 255), expected, atol=1e-5)


@pytest.mark.parametrize(
  'images, words',
  [
    (np.zeros((2, 8, 8, 3), np.uint8), r'they must be \[B, 8, 8, 1\]'),
    (np.zeros((8, 8, 1), np.uint8), r'they must be \[B, 8, 8, 1\]'),
    (np.zeros((2, 8, 8, 1), np.int32), 'images are int32; they must be uint8, or floating-point'),
  ],
)
def test_other_images_are_refused(trained, images, words):
  apply_fn, variables, _ = stretchnas_jax.load_trained(trained[0])
  with pytest.raises(ValueError, match=words):
    apply_fn(variables, images)


def test_the_supernet_of_a_search_is_as_accurate_as_its_last_epoch(searched, digits):
  path, result = searched
  apply_fn, variables, info = stretchnas_jax.load_trained(path)
  config = with_fields(config_lib.search_config(), SEARCH)
  val = search_task.plan_search(config).feeds.val
  ((rows, valid),) = val.chunks(100)
  rows = rows[valid > 0]
  logits = jax.jit(apply_fn)(variables, digits.train_images[rows])
  accuracy = (np.asarray(logits).argmax(-1) == digits.train_labels[rows]).mean()
  assert accuracy == pytest.approx(result['val_accuracy'])
  assert info['kind'] == 'search' and set(variables) == {'params', 'batch_stats', 'arch'}
  assert info['genotype'].to_dict() == result['genotype']


def test_loading_changes_nothing_and_passes_over_a_damaged_checkpoint(trained):
  path = trained[0] / 'checkpoints'
  newest = sorted(path.iterdir(), key=lambda p: int(p.name))[-1]
  damaged = newest.parent / '99'
  (damaged / 'meta').mkdir(parents=True)
  (damaged / 'meta' / 'metadata').write_text('{')
  before = set(path.rglob('*'))
  info = stretchnas_jax.load_trained(trained[0])[2]
  assert info['step'] == int(newest.name) and set(path.rglob('*')) == before
  shutil.rmtree(damaged)


def test_what_holds_no_run_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='is not a run: it has no config.json'):
    stretchnas_jax.load_trained(tmp_path)
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(FileNotFoundError, match='has no checkpoint yet'):
    stretchnas_jax.load_trained(tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']


def test_there_is_no_best_epoch_without_a_holdout(trained, searched, tmp_path):
  for path in trained[0], searched[0]:
    with pytest.raises(ValueError, match='has no best epoch: only a training with config.data.hol'):
      stretchnas_jax.load_trained(path, best=True)
  with pytest.raises(ValueError, match='has no best epoch'):
    export.export_trained(trained[0], tmp_path / 'model.stablehlo', best=True)


def test_predictions_of_arrays_files_and_pictures_agree(trained, digits, tmp_path):
  loaded = stretchnas_jax.load_trained(trained[0])
  images = digits.test_images[:7]
  pictures = [Image.fromarray(image[..., 0]) for image in images]
  files = [tmp_path / f'{i}.png' for i in range(7)]
  for file, picture in zip(files, pictures):
    picture.save(file)
  found = stretchnas_jax.predict(loaded, images, batch_size=3)
  logits = np.asarray(loaded[0](loaded[1], images))
  assert found.classes == [str(i) for i in logits.argmax(-1)]
  np.testing.assert_allclose(found.probabilities, jax.nn.softmax(logits), atol=1e-6)
  for same in (files, pictures):
    np.testing.assert_array_equal(
      stretchnas_jax.predict(loaded, same, batch_size=3).probabilities, found.probabilities
    )
  assert stretchnas_jax.predict(loaded, []).probabilities.shape == (0, 10)


RUN = """
import sys
sys.modules['stretchnas_jax'] = sys.modules['flax'] = None  # not to be imported
import numpy as np
from jax import export
network = export.deserialize(bytearray(open('model.stablehlo', 'rb').read()))
images = np.load('images.npy')
np.save('logits.npy', np.concatenate([network.call(images[:1]), network.call(images[1:])]))
"""


@pytest.mark.parametrize('which', ['trained', 'searched'])
def test_an_exported_network_runs_without_this_package(which, request, tmp_path, digits):
  path, _ = request.getfixturevalue(which)
  export.export_trained(path, tmp_path / 'model.stablehlo')
  images = digits.test_images[:5]
  np.save(tmp_path / 'images.npy', images)
  subprocess.run([sys.executable, '-I', '-W', 'error', '-c', RUN], cwd=tmp_path, check=True)
  apply_fn, variables, info = stretchnas_jax.load_trained(path)
  expected = apply_fn(variables, images)
  np.testing.assert_allclose(np.load(tmp_path / 'logits.npy'), expected, atol=1e-4)
  described = json.loads((tmp_path / 'model.json').read_text())
  assert tuple(described['class_names']) == info['class_names']
  assert described['image_shape'] == [8, 8, 1] and set(described['platforms']) >= {'cpu', 'cuda'}
  if which == 'trained':  # a later export replaces both files
    export.export_trained(path, tmp_path / 'model.stablehlo', ('cpu',))
    assert json.loads((tmp_path / 'model.json').read_text())['platforms'] == ['cpu']


def test_a_place_that_cannot_be_written_is_named(trained, tmp_path):
  with pytest.raises(ValueError, match='there is no folder'):
    export.export_trained(trained[0], tmp_path / 'no' / 'model.stablehlo')
  with pytest.raises(ValueError, match='its ending must not be .json'):
    export.export_trained(trained[0], tmp_path / 'model.json')


def test_weights_of_another_network_are_named(trained, tmp_path):
  """Checkpoints that were copied to a run of another size."""
  config = with_fields(config_lib.train_config(), {**TINY, 'model.channels': 6})
  plan = train_plan.plan_train(config, genotype=TINY_CELL)
  like = jax.eval_shape(train_task.compile_programs(plan).init, jax.random.key(0))
  with (
    checkpoint.Checkpoints(trained[0] / 'checkpoints', read_only=True) as saved,
    pytest.raises(ValueError, match='is of another run: .* there, and float32'),
  ):
    saved.restore_latest(like)


def test_a_loaded_search_has_the_temperatures_of_its_last_epoch(annealed):
  saved, history = trained_lib.read_run(annealed), stretchnas_jax.load_history(annealed)
  search, state = saved.objects.search, saved.state
  op_weights, edge_scores = search.mixture(state.arch, saved.step, state.control)
  for cell in op_weights:
    np.testing.assert_allclose(op_weights[cell], history.op_weights[cell][-1], atol=1e-5)
    np.testing.assert_allclose(edge_scores[cell], history.edge_scores[cell][-1], atol=1e-5)
    expected = jax.nn.softmax(history.alpha[cell][-1] / 0.1)
    np.testing.assert_allclose(op_weights[cell], expected, atol=1e-5)
    assert np.ptp(op_weights[cell]) > 0.5  # a wrong temperature would show
  logits = [np.where(np.isfinite(b[-1]), b[-1] / 0.1, -np.inf) for b in history.beta.values()]
  probs = np.array([scipy.special.softmax(one, -1) for one in logits])
  entropies = scipy.special.entr(probs).sum(-1)
  assert history.lines[-1]['beta_entropy'] == pytest.approx(entropies.mean(), rel=1e-4)
  knobs = search.network_inputs(saved.step, state.control)['knobs']
  assert float(knobs['auxiliary_skip']) == pytest.approx(0.5)  # 1 - e / 2 in epoch 1
  apply_fn, variables, info = stretchnas_jax.load_trained(annealed)
  logits = apply_fn(variables, np.zeros((2, 8, 8, 1), np.uint8))
  assert np.isfinite(logits).all() and info['step'] > 2


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='a CPU is exact by itself')
def test_an_export_is_checked_in_full_float32(trained, monkeypatch):
  """Other programs compute so. A bfloat16 network, or a TPU, would differ by more than rounding."""
  saved = trained_lib.read_run(trained[0])
  apply_fn, variables, _ = trained_lib.use(saved, 'plain')
  rough = saved._replace(
    objects=saved.objects._replace(net=saved.objects.net.clone(dtype=jnp.bfloat16))
  )
  monkeypatch.setattr(trained_lib, 'read_run', lambda *args, **options: rough)
  network = export_forms.read(trained[0])
  np.testing.assert_allclose(network.logits, apply_fn(variables, network.images), 1e-4, 1e-5)
  rough_logits = trained_lib.use(rough, 'plain')[0](variables, network.images)
  assert np.abs(network.logits - rough_logits).max() > 1e-4
  program = jax.jit(trained_lib.use(rough, 'plain', exact=True)[0]).lower(variables, network.images)
  assert 'HIGHEST' in program.as_text() and 'DEFAULT' not in program.as_text()


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='the form of CPUs')
def test_a_search_has_the_form_of_the_device_on_which_it_is_read(searched):
  saved = trained_lib.read_run(searched[0])
  assert (saved.config.model.form, saved.objects.net.form) == ('merged', 'planes')
