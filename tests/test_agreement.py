"""The agreement with PyTorch: the same steps, the same recipe, honest statistics."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import agreement, agreement_steps, agreement_tables, exact
from experiments import agreement_trainings as trainings
from experiments.benchmarks import processes
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import zoo


def peer(name):
  pytest.importorskip('torch')
  from experiments.benchmarks import torch_replay, torch_train

  return {'train': torch_train, 'replay': torch_replay}[name]


# ---- three steps ---------------------------------------------------------------------------------


def clip_without_epsilon(parameters, most):
  """PyTorch's own divides by the norm + 1e-6."""
  norm = sum((p.grad**2).sum() for p in parameters) ** 0.5
  for p in parameters:
    p.grad *= min(1, most / norm)


def test_our_steps_are_those_of_pytorch(monkeypatch):
  """In float64, where rounding puts no ReLU on its other side; gradients are clipped in all."""
  replay, chance = peer('replay'), np.random.default_rng(0)
  config = config_lib.train_config()
  config.model.channels, config.model.num_layers, config.model.dtype = 4, 3, 'float64'
  config.model.auxiliary, config.train.drop_path, config.train.epochs = False, 0.0, 3
  # The replay knows the averages without a correction of their start.
  config.model.batch_norm = 'plain'
  images = chance.normal(size=(3, 4, 12, 12, 3)).astype(np.float32)
  labels = chance.integers(10, size=(3, 4)).astype(np.int32)
  with jax.enable_x64(True):
    made, other = exact.steps(config, zoo.GENOTYPES['DARTS_V2'], images, labels, (0, 1))
  assert not np.array_equal(*[m['start/stem/conv/kernel'] for m in (made, other)])
  assert 1e-9 < max(replay.replay(made)['ours'].values()) < 2e-7
  monkeypatch.setattr(replay.nn.utils, 'clip_grad_norm_', clip_without_epsilon)
  for start in made, other:
    found = replay.replay(start)['ours']
    assert set(found) == {
      'logits', 'loss', 'evaluation_logits', 'weights', 'running_means', 'running_variances',
      'first_movement', 'movement',
    }  # fmt: skip
    assert max(found.values()) < 1e-9
  # The measure sees a wrong rate: the end of two steps is not that of three.
  made['loss'] = made['loss'][:2]
  short = replay.run(
    {**made, 'images': made['images'][:2], 'labels': labels[:2]}, replay.torch.float64
  )
  end = {**made, **{name: replay.under(made, name) for name in ('first', 'end')}}
  far = replay.differences(end, short, replay.under(made, 'start'))
  assert far['movement'] > 0.1


def test_a_network_of_other_sizes_is_refused():
  replay = peer('replay')
  net = replay.networks.evaluation_network('DARTS_V2', 4, 3)
  values = {name: value.numpy() for name, value in replay.tensors_of(net).items()}
  del values['stem/norm/var']
  with pytest.raises(ValueError, match='stem/norm/var'):
    replay.load(net, values)


# ---- the recipe ----------------------------------------------------------------------------------


def test_both_sides_are_told_the_same_recipe():
  train, config = peer('train'), config_lib.train_config()
  told = train.parse(['--data=x.npz'])
  assert told.batch == config.train.batch_size and told.drop_path == config.train.drop_path
  assert (told.padding, told.cutout) == (config.data.crop_padding, config.data.cutout)
  assert told.auxiliary == config.model.auxiliary and config.train.auxiliary_weight == 0.4
  optimizer = train.darts.sgd([train.torch.zeros(1, requires_grad=True)])
  group, weights = optimizer.param_groups[0], config.weights
  assert group['momentum'] == weights.momentum and not group['nesterov']
  assert group['weight_decay'] == weights.weight_decay and weights.clip_norm == 5.0
  train.set_rate(optimizer, 0, 10)
  assert group['lr'] == weights.learning_rate and weights.schedule == 'cosine'
  train.set_rate(optimizer, 10, 10)
  assert group['lr'] == weights.final_learning_rate == config.train.label_smoothing


def test_augmented_images_are_crops_mirrored_or_not_with_a_hole():
  """Every image is found again among all that crop, flip and hole allow."""
  train, chance = peer('train'), np.random.default_rng(0)
  image = np.arange(1, 6 * 5 * 3 + 1, dtype=np.uint8).reshape(6, 5, 3)
  padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
  crops = [padded[i : i + 6, j : j + 5] for i in range(5) for j in range(5)]
  crops += [crop[:, ::-1] for crop in crops]
  kinds, holes = set(), set()
  for _ in range(600):
    made = train.augmented(image, chance, np.float32(-1), np.float32(1), 2, 3)
    hole = (made == 0).all(-1)  # a black pixel is 1
    rows, columns = hole.any(1), hole.any(0)
    np.testing.assert_array_equal(hole, rows[:, None] & columns)
    assert 2 <= rows.sum() <= 3 and 2 <= columns.sum() <= 3
    holes.add((rows.argmax(), columns.argmax(), rows.sum(), columns.sum()))
    same = [np.allclose(made[~hole], crop[~hole] / 255 + 1) for crop in crops]
    assert sum(same) == 1
    kinds.add(same.index(True))
  assert len(kinds) == 50 and len(holes) == 30


def test_pytorch_trains_and_measures(tmp_path, capsys):
  train, chance = peer('train'), np.random.default_rng(0)
  data = {'mean': np.float32([0.5] * 3), 'std': np.float32([0.25] * 3)}
  for part, count in (('train', 10), ('test', 7)):
    data[f'{part}_images'] = chance.integers(256, size=(count, 8, 8, 3)).astype(np.uint8)
    data[f'{part}_labels'] = np.arange(count, dtype=np.int32)
  np.savez(tmp_path / 'data.npz', **data)
  words = ['--channels=4', '--layers=2', '--batch=4', '--noauxiliary', '--cutout=2']
  losses = []
  for _ in range(2):
    train.main([f'--data={tmp_path}/data.npz', '--epochs=1', *words])
    losses.append(json.loads(capsys.readouterr().out)['test_loss'])
  assert losses[0] == losses[1] and 1 < losses[0] < 5


# ---- images and statistics -----------------------------------------------------------------------


def class_folders(path, count):
  for part in ('train', 'test'):
    for name in ('ant', 'bee'):
      (path / part / name).mkdir(parents=True)
      for i in range(count):
        Image.new('RGB', (32, 32), (i, i, i + 1)).save(path / part / name / f'{i}.png')


def test_the_subset_has_the_first_images_of_each_class(tmp_path):
  class_folders(tmp_path / 'all', 3)
  counts = {'train': 4, 'test': 2}
  made = agreement.make_subset(tmp_path / 'all', tmp_path / 'few', counts)
  found = sorted(str(path.relative_to(made)) for path in made.rglob('*.png'))
  assert found == [
    'test/ant/0.png', 'test/bee/0.png', 'train/ant/0.png', 'train/ant/1.png', 'train/bee/0.png',
    'train/bee/1.png',
  ]  # fmt: skip
  with pytest.raises(ValueError, match="3 train images of 'ant'; 4 needed"):
    agreement.make_subset(tmp_path / 'all', tmp_path / 'more', {'train': 8})


@pytest.mark.parametrize('words', [['--sides=ours,theirs'], ['--train-images=9']])
def test_wrong_words_are_refused(words, tmp_path):
  class_folders(tmp_path, 3)
  with pytest.raises(SystemExit) as stop:
    agreement.main([f'--images={tmp_path}', f'--workdir={tmp_path}/work', *words])
  assert stop.value.code == 2


def runs(*accuracies):
  return [{'test_accuracy': x, 'test_loss': 1 - x} for x in accuracies]


def test_a_difference_is_held_against_its_error():
  ours, theirs = (
    trainings.summary(runs(0.5, 0.6, 0.7)),
    trainings.summary(runs(0.4, 0.5, 0.6)),
  )
  assert ours['test_accuracy'] == pytest.approx(0.6)
  assert ours['test_accuracy_std'] == pytest.approx(0.1)
  near = trainings.compare(ours, theirs, 'test_accuracy')
  assert near['difference'] == pytest.approx(0.1)
  assert near['standard_error'] == pytest.approx((2 * 0.01 / 3) ** 0.5)
  assert near['t'] == pytest.approx(1.5**0.5) and near['within_noise']
  far = trainings.compare(ours, trainings.summary(runs(0.1, 0.11, 0.12)), 'test_accuracy')
  assert not far['within_noise']


def test_the_text_says_what_was_found():
  facts = processes.facts() | {'images': 'Twelve ants'}
  names = 'logits', 'evaluation_logits', 'first_movement'
  starts = [dict(zip(names, (x * 1e-7, x * 1e-8, x * 1e-4))) for x in (1, 2, 9)]
  steps = {'steps': 3, 'batch': 32, 'starts': 3, **trainings.SIZES}
  exactly = [{name: value / 1e6 for name, value in start.items()} for start in starts]
  steps['cells'] = {'A': {'float64': exactly, 'float32': starts, 'pytorch': exactly}}
  assert agreement_steps.worst(steps) == 9e-7  # logits in float32; movements are a matter of chance
  sides = {
    'ours': trainings.summary(runs(0.5, 0.6)),
    'peer': trainings.summary(runs(0.4, 0.5)),
  }
  training = {**trainings.SIZES, 'train_images': 8, 'test_images': 4, 'cells': sides}
  test = trainings.compare(sides['ours'], sides['peer'], 'test_accuracy')
  training['ours_less_peer'] = {'test_accuracy': test}
  sides['once'] = trainings.summary(runs(0.25))
  text = agreement_tables.markdown({'exact': facts | steps, 'training': facts | training})
  assert '| logits | 9.0e-13 | 2.0e-07 (9.0e-07) | 2.0e-13 (9.0e-13) |' in text
  assert "First movements above 0.0001: 2 of 3 starts of ours, 0 of PyTorch's." in text
  assert '| ours | 2 | 0.5500 ± 0.0707 | 0.4500 ± 0.0707 |' in text
  assert '| once | 1 | 0.2500 | 0.7500 |' in text
  assert 'test accuracy +0.1000' in text and text.count('Twelve ants') == 2
