"""The scales of an experiment: as published, for a day on a GPU, or for two CPU cores."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from stretchnas_jax.sweeps.spec import CIFAR10, IMAGENET

_DIGITS = 'configs/train_digits.py'
_DARTS = 'configs/darts_cifar10.py'


class Recipe(NamedTuple):
  """The training of a network.

  Attributes:
    config: the config file.
    overrides: config fields that differ from the file.
  """

  config: str
  overrides: Mapping[str, Any] = {}


class Scale(NamedTuple):
  """The changes that a scale makes to every search and training.

  Attributes:
    about: the data set and the length of searches and trainings, in one line.
    imagenet_about: the same of an experiment on ImageNet.
    seeds: the seeds that are run by default.
    search: overrides of every search.
    imagenet_search: further overrides of the search on ImageNet.
    stand_ins: for a search config of the paper the one that replaces it, and a remark for its rows.
    epochs: the epochs of a search.
    layers: for a number of layers in the paper the number here; other numbers stay.
    params: the factor of all numbers of parameters.
    recipes: for a training config of the paper the recipe here.
    candidates: the number of random cells of which a short training chooses one; with 1 there is
      no choice.
    candidate_epochs: the epochs of that short training.
  """

  about: str
  imagenet_about: str
  seeds: tuple[int, ...]
  search: Mapping[str, Any]
  imagenet_search: Mapping[str, Any]
  stand_ins: Mapping[str, tuple[str, str]]
  epochs: int
  layers: Mapping[int, int]
  params: float
  recipes: Mapping[str, Recipe]
  candidates: int
  candidate_epochs: int


PAPER = Scale(
  about='CIFAR-10 as published, 50 epochs of search and 600 of training',
  imagenet_about='ImageNet as published, 50 epochs of search and 250 of training',
  seeds=(0, 1, 2),
  search={},
  imagenet_search={},
  stand_ins={},
  epochs=50,
  layers={},
  params=1.0,
  recipes={CIFAR10: Recipe(CIFAR10), IMAGENET: Recipe(IMAGENET)},
  candidates=24,
  candidate_epochs=100,
)

SMALL = Scale(
  about='CIFAR-10, 25 epochs of search and 50 of training, half the channels, fewer layers',
  imagenet_about='CIFAR-10, enlarged to 64x64 pixels in place of ImageNet, 25 epochs of search and '
  '50 of training',
  seeds=(0, 1, 2),
  search={'model.channels': 8},
  imagenet_search={
    'data.name': 'cifar10', 'data.image_size': 64, 'data.fraction': 1.0,
    'search.steps_per_call': 50,
  },
  stand_ins={},
  epochs=25,
  layers={8: 5, 12: 8, 14: 8, 16: 11, 20: 14},
  params=0.25,
  recipes={
    CIFAR10: Recipe(CIFAR10, {'train.epochs': 50, 'train.drop_path': 0.1}),
    # Enlarged CIFAR-10 with the stem for large images stands in for ImageNet.
    IMAGENET: Recipe(
      CIFAR10, {
        'train.epochs': 50, 'train.drop_path': 0.0, 'train.label_smoothing': 0.1,
        'data.image_size': 64, 'model.stem': 'imagenet', 'model.auxiliary': False,
      },
    ),
  },
  candidates=8,
  candidate_epochs=10,
)  # fmt: skip

TINY = Scale(
  about="scikit-learn's digits of 8x8 pixels, 20 epochs of search and 10 of training",
  imagenet_about="scikit-learn's digits, enlarged to 32x32 pixels in place of ImageNet, 20 epochs "
  'of search and 10 of training',
  seeds=(0, 1, 2),
  search={
    'data.name': 'digits', 'data.image_size': 8, 'data.crop_padding': 1, 'data.flip': False,
    'model.channels': 4, 'search.batch_size': 32, 'weights.learning_rate': 0.1,
    # With few steps, the architecture must move faster than over 50 epochs of CIFAR-10.
    'alpha.learning_rate': 6e-3, 'beta.learning_rate': 3e-2, 'weights.schedule_by': 'step',
  },
  imagenet_search={
    'data.image_size': 32, 'data.fraction': 1.0, 'search.steps_per_call': 50,
  },
  # A step of second order takes several times as long to compile.
  stand_ins={
    f'{_DARTS}:second': (f'{_DARTS}:first', '1st order here'),
    f'{_DARTS}:second_output': (f'{_DARTS}:first_output', '1st order here'),
  },
  epochs=20,
  layers={8: 3, 12: 4, 14: 4, 16: 5, 20: 6},
  params=1 / 32,
  recipes={
    CIFAR10: Recipe(_DIGITS, {'train.epochs': 10}),
    IMAGENET: Recipe(
      _DIGITS, {'train.epochs': 10, 'data.image_size': 32, 'model.stem': 'imagenet'}
    ),
  },
  candidates=2,
  candidate_epochs=3,
)  # fmt: skip

_FOLDER = {
  'data.name': 'folder', 'data.image_size': 16, 'data.fraction': 0.1, 'data.crop_padding': 2,
}  # fmt: skip

# At these sizes some C comes within 5 % of the wanted size, because a step of C is about 8 %.
CPU = Scale(
  about='CIFAR-10 of 16x16 pixels from class folders, 5,000 images, 15 epochs of search and 12 of '
  'training',
  imagenet_about='CIFAR-10 of 32x32 pixels from class folders, 5,000 images in place of ImageNet, '
  '15 epochs of search and 12 of training',
  seeds=(0, 1, 2),
  search={
    **_FOLDER, 'model.channels': 8, 'weights.learning_rate': 0.05,
    'alpha.learning_rate': 6e-3, 'beta.learning_rate': 3e-2, 'weights.schedule_by': 'step',
  },
  imagenet_search=TINY.imagenet_search,
  stand_ins=TINY.stand_ins,
  epochs=15,
  layers=SMALL.layers,
  params=1 / 8,
  recipes={
    CIFAR10: Recipe(
      CIFAR10, {
        **_FOLDER, 'data.cutout': 4, 'model.auxiliary': False, 'train.epochs': 12,
        'train.batch_size': 64, 'train.drop_path': 0.05, 'weights.learning_rate': 0.05,
        'weights.schedule_by': 'step',
      },
    ),
    IMAGENET: Recipe(
      CIFAR10, {
        **_FOLDER, 'data.image_size': 32, 'data.cutout': 0, 'model.stem': 'imagenet',
        'model.auxiliary': False, 'train.epochs': 12, 'train.batch_size': 64,
        'train.drop_path': 0.0, 'weights.learning_rate': 0.05, 'weights.schedule_by': 'step',
      },
    ),
  },
  candidates=1,
  candidate_epochs=0,
)  # fmt: skip

SCALES = {'paper': PAPER, 'small': SMALL, 'cpu': CPU, 'tiny': TINY}
