"""Tests of tiny searches and trainings on streamed images."""

import contextlib
import functools
import json
import pathlib
import shutil
import threading

import jax
import numpy as np
import pytest
from helpers import TINY_CELL, load_config, with_fields, without_clock
from PIL import Image

import stretchnas_jax
from stretchnas_jax import config as config_lib
from stretchnas_jax import train
from stretchnas_jax.cells import genotype, space, zoo
from stretchnas_jax.cli import app
from stretchnas_jax.data.batches import (
  augment,
  color_jitter,
  opening,
  order,
  stream_batches,
  streaming,
)
from stretchnas_jax.data.datasets import encoded
from stretchnas_jax.networks import sizes, supernet
from stretchnas_jax.runs import (
  commands,
  evaluation,
  json_files,
  loop,
  steps,
  train_plan,
  train_task,
  trained,
)

ROOT = pathlib.Path(__file__).parents[1]
STREAM = {
  'data.image_size': 16, 'data.jitter': 1.0, 'data.workers': 2, 'model.channels': 2,
  'model.num_layers': 1, 'model.stem': 'imagenet', 'parallel.backend': 'single',
}  # fmt: skip
SEARCH = STREAM | {
  'data.name': 'imagenet2012', 'space.num_intermediate': 1, 'model.form': 'merged',
  'search.batch_size': 4, 'search.epochs': 1, 'data.jitter': 0.0,
}  # fmt: skip
TRAIN = STREAM | {
  'data.name': 'folder', 'data.stream': True, 'data.cutout': 4, 'model.auxiliary': False,
  'train.batch_size': 8, 'train.epochs': 2,
}  # fmt: skip


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Makes class folders: for each of 3 classes 8 JPEGs for training, and 3 for evaluation."""
  path, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
  for part, count in ('train', 8), ('test', 3):
    for label in range(3):
      folder = path / part / f'n0{label}'
      folder.mkdir(parents=True)
      for i in range(count):
        pixels = random.integers(0, 100, (20, 24, 3), np.uint8) + np.uint8(70 * label)
        Image.fromarray(pixels).save(folder / f'{i}.JPEG')
  return path


@pytest.fixture(scope='module')
def train_config(images):
  return lambda path=images, **fields: with_fields(
    config_lib.train_config(), TRAIN | {'data.path': str(path)} | fields
  )


@pytest.fixture(scope='module')
def programs(train_config):
  """Compiled once for all trainings here."""
  return train_task.compile_programs(train_plan.plan_train(train_config(), genotype=TINY_CELL))


@pytest.fixture(autouse=True)
def compile_once(request, monkeypatch):
  if 'programs' in request.fixturenames:
    found = request.getfixturevalue('programs')
    monkeypatch.setattr(train_task, 'compile_programs', lambda plan: found)
    monkeypatch.setattr(
      evaluation.steps, 'compile_evaluation', lambda evaluate, feed, devices: found.evaluate['test']
    )


def no_thread_is_left():
  return not [t for t in threading.enumerate() if t.name.startswith('decode')]


# ---- searches ------------------------------------------------------------------------------------


def test_a_search_on_a_stream(images, tmp_path, capsys):
  config = with_fields(config_lib.search_config(), SEARCH | {'data.path': str(images)})
  result = stretchnas_jax.run_search(config, tmp_path / 'run')
  (line,) = json_files.read_lines(tmp_path / 'run' / 'metrics.jsonl')
  assert line['step'] == 2 and np.isfinite(line['train_loss'])
  assert round(16 * result['val_accuracy'], 6) in range(17)  # images in the two validation parts
  assert no_thread_is_left()
  assert 'imagenet stem' in capsys.readouterr().err
  apply_fn, variables, info = stretchnas_jax.load_trained(tmp_path / 'run')
  assert info['image_shape'] == (16, 16, 3) and info['stream']
  np.testing.assert_array_equal(info['mean'], np.float32(stream_batches.IMAGENET_MEAN))
  assert set(variables['params']['stem']) == {
    f'{kind}_{i}' for kind in ('conv', 'norm') for i in range(3)
  }


def test_the_stem_for_large_images_halves_three_times():
  net = supernet.Supernet(space.darts_space(1), 4, 3, 5, stem='imagenet')
  params = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, 32, 32, 3)))['params']
  kernels = [params['stem'][f'conv_{i}']['kernel'].shape for i in range(3)]
  assert kernels == [(3, 3, 3, 6), (3, 3, 6, 12), (3, 3, 12, 12)]
  common = {'channels': 4, 'num_layers': 3, 'num_classes': 5}
  counts = [
    sizes.count_supernet_params(net.space, **common, stem=stem) for stem in ('cifar', 'imagenet')
  ]
  stems = 27 * 12 + 2 * 12, (27 * 6 + 2 * 6) + (54 * 12 + 2 * 12) + (108 * 12 + 2 * 12)
  assert counts[1] - counts[0] == stems[1] - stems[0]
  with pytest.raises(ValueError, match="stem is 'large'; allowed are cifar, imagenet"):
    supernet.Supernet(space.darts_space(1), 4, 3, 5, stem='large')


# ---- trainings -----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def finished(train_config, programs, tmp_path_factory):
  """Returns the folder and the result of a training that was never interrupted."""
  path = tmp_path_factory.mktemp('train') / 'run'
  return path, stretchnas_jax.run_train(train_config(), path, TINY_CELL)


def test_a_training_on_a_stream_resumes_exactly(finished, train_config, tmp_path, monkeypatch):
  """The training stops in its second epoch of 3 steps, after a checkpoint in that epoch."""
  path, result = finished
  assert round(9 * result['test_accuracy'], 6) in range(10)
  advance, seen = loop.Loop.advance, []

  def stop_in_second_epoch(self, *args):
    seen.append(1)
    if len(seen) == 6:
      raise RuntimeError('crash')
    return advance(self, *args)

  config = train_config(**{'train.steps_per_call': 1, 'checkpoint.every_steps': 2})
  monkeypatch.setattr(loop.Loop, 'advance', stop_in_second_epoch)
  with pytest.raises(RuntimeError):
    stretchnas_jax.run_train(config, tmp_path / 'run', TINY_CELL)
  assert no_thread_is_left()
  assert max(int(p.name) for p in (tmp_path / 'run' / 'checkpoints').iterdir()) == 4
  monkeypatch.setattr(loop.Loop, 'advance', advance)
  config.data.workers = 1
  again = stretchnas_jax.run_train(config, tmp_path / 'run', TINY_CELL)
  assert {**again, 'seconds': 0} == {**result, 'seconds': 0}
  lines = [without_clock(p / 'metrics.jsonl') for p in (tmp_path / 'run', path)]
  assert lines[0] == lines[1]
  states = [trained.read_run(p).state for p in (tmp_path / 'run', path)]
  jax.tree.map(np.testing.assert_array_equal, *states)


def truncate(path):
  with open(path, 'r+b') as file:
    file.truncate(pathlib.Path(path).stat().st_size * 3 // 4)


def start(config_fields, path):
  """Runs the program as the command line does."""
  words = [f'--config.{field}={value}' for field, value in config_fields.items()]
  argv = ['train', f'--config={ROOT / "configs" / "train_folder.py"}', *words]
  argv += [f'--workdir={path}', f'--genotype={path.parent / "cell.json"}']
  app.run(train.prepare, workdir=True, options=train.OPTIONS, argv=argv)


def test_a_broken_image_ends_a_run_with_one_line_or_is_skipped(
  images, programs, tmp_path, capsys, caplog
):
  tree = shutil.copytree(images, tmp_path / 'images')
  (tmp_path / 'cell.json').write_text(genotype.to_json(TINY_CELL))
  files = encoded.load('folder', path=str(tree))
  batches = order.epoch_indices(np.arange(24), 8, 3, seed=0, epoch=0, stream='train')
  broken = files.train.paths[batches[2, 5]]  # in the last step of the first epoch
  truncate(broken)
  truncate(files.test.paths[4])
  fields = TRAIN | {'data.path': tree, 'checkpoint.every_steps': 1, 'train.steps_per_call': 1}
  with pytest.raises(SystemExit) as stop:
    start(fields, tmp_path / 'run')
  assert stop.value.code == 2 and no_thread_is_left()
  errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith('error: ')]
  assert len(errors) == 1
  assert broken in errors[0] and "set data.on_bad_image to 'skip'" in errors[0]
  assert {int(p.name) for p in (tmp_path / 'run' / 'checkpoints').iterdir()} == {1, 2}
  start(fields | {'data.on_bad_image': 'skip'}, tmp_path / 'run')
  result = json.loads((tmp_path / 'run' / 'result.json').read_text())
  assert round(8 * result['test_accuracy'], 6) in range(9)  # 8 of the 9 images can be read
  assert broken in caplog.text and files.test.paths[4] in caplog.text
  capsys.readouterr()
  evaluation.prepare_evaluation(tmp_path / 'run')()
  line = json.loads(capsys.readouterr().out)
  assert (line['test_images'], line['test_accuracy']) == (8, result['test_accuracy'])
  assert no_thread_is_left()


def test_predictions_agree_with_the_test_accuracy(finished, images):
  loaded = stretchnas_jax.load_trained(finished[0])
  files = encoded.load('folder', path=str(images)).test
  found = stretchnas_jax.predict(loaded, files.paths)
  right = np.mean([name == f'n0{label}' for name, label in zip(found.classes, files.labels)])
  assert right == pytest.approx(finished[1]['test_accuracy'])
  with contextlib.ExitStack() as stack:
    opened = [stack.enter_context(Image.open(path)) for path in files.paths]
    again = stretchnas_jax.predict(loaded, opened)
  np.testing.assert_array_equal(again.probabilities, found.probabilities)


# ---- configs ------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['milenas_sc_imagenet', 'train_imagenet'])
def test_the_configs_of_imagenet_open_their_stream(name, images):
  config = load_config(ROOT / 'configs' / f'{name}.py')
  group = config.search if 'search' in config else config.train
  assert 4 <= group.steps_per_call <= 8 and group.batch_size % 64 == 0
  more = {'data.path': str(images), 'data.fraction': 1.0, 'data.workers': 1}
  with_fields(config, more)
  group.batch_size = 8
  opened = opening.open_search if 'search' in config else opening.open_training
  with contextlib.closing(opened(config)) as feeds:
    assert feeds.image_shape == (224, 224, 3) and feeds.class_names == ('n00', 'n01', 'n02')
    count = 8 if 'search' in config else 24
    assert feeds.sizes['train'] == count and feeds.train.steps_per_epoch == count // 8
    chunk = feeds.train.chunk(0, 0, 1, 1)
    assert set(chunk) == set(feeds.sizes) - {'test'}
    assert {part.images.shape for part in chunk.values()} == {(1, 8, 224, 224, 3)}
    jitter = color_jitter.Strengths() if config.data.jitter else None
    assert feeds.train.options == stream_batches.Options(workers=1, jitter=jitter)


def test_a_fraction_of_too_few_images_is_named(images):
  config = load_config(ROOT / 'configs' / 'milenas_sc_imagenet.py')
  config.data.path = str(images)
  with pytest.raises(ValueError, match=r'data.fraction 0.03 of 24 images is too few'):
    opening.open_search(config)


def test_the_options_of_a_stream_come_from_the_config(images):
  config = config_lib.train_config()
  assert opening.stream_options(config.data).jitter is None
  assert opening.stream_options(config.data).image_size == 224
  with_fields(config, {'data.jitter': 0.5, 'data.crop_scale': 0.25, 'data.flip': False})
  options = opening.stream_options(config.data)
  assert options.jitter == (0.2, 0.2, 0.2, 0.1) and options.scale == (0.25, 1.0)
  assert not options.flip and options.cutout == 16
  config.data.stream = True
  with pytest.raises(ValueError, match="'cifar10'; streamed it can be one of imagenet2012, folder"):
    opening.load_dataset(config.data)


def test_each_image_has_its_own_cutout(key):
  cut_out = jax.jit(functools.partial(augment.cut_out_each, size=4))
  ones = np.ones((6, 8, 8, 3), np.float32)
  found = cut_out(key, ones, np.arange(6))
  holes = [np.asarray(1 - image[..., 0]) for image in found]
  assert all(4 <= hole.sum() <= 16 for hole in holes)
  assert len({hole.tobytes() for hole in holes}) > 1
  moved = cut_out(key, ones, np.arange(4, 10))
  np.testing.assert_array_equal(moved[:2], found[4:])


def test_an_evaluation_without_a_readable_image_is_named(images, tmp_path):
  tree = shutil.copytree(images, tmp_path / 'images')
  files = encoded.load('folder', path=str(tree)).test
  for path in files.paths:
    truncate(path)
  options = stream_batches.Options(image_size=8, workers=1, on_bad_image='skip')
  feed = streaming.StreamEvaluation(files, np.arange(9), 4, options)
  program = lambda state, data, part, valid: {'loss': valid.sum(), 'count': valid.sum()}
  with contextlib.closing(feed):
    for own, count in ((feed, 9), (feed.mixed(4), 4)):
      with pytest.raises(OSError, match=f'none of the {count} images of the evaluation'):
        steps.measure(program, None, (), own, 1)


def test_the_printed_command_trains_on_the_same_stream(images):
  config, cell = config_lib.search_config(), zoo.GENOTYPES['DARTS_V2']
  config.data.name = 'imagenet2012'
  found = commands.train_command(config, pathlib.Path('runs/x'), cell)
  assert '--config=train_imagenet --' in found
  config.data.name, config.data.stream, config.data.path = 'folder', True, str(images)
  found = commands.train_command(config, pathlib.Path('runs/x'), cell)
  assert '--config=train_folder' in found and f' --config.data.path={images}' in found
  assert ' --config.data.stream=True' in found
