"""The sizes of a search in NAS-Bench-201, from the published one to seconds."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Scale(NamedTuple):
  """The fields that a scale sets in every search, whatever its method.

  Attributes:
    about: the data and the length of a search, in one line.
    rate: the learning rate of alpha and of beta, the same for all methods. That of `cpu` was chosen
      by the entropy of alpha at the end of a search, never by the table; the others were not tried.
    fields: config fields.
    images: whether the searches need CIFAR-10.
    most_seeds: the largest number of seeds of a row.
    rows: the keys of the rows that run where none are named; () for all.
    ranked: cells that are measured with each supernet, for Kendall's tau. The supernets are those
      of the epochs that stay by `checkpoint.keep_every_epochs`.
    ranked_images: validation images of each measurement.
  """

  about: str
  rate: float
  fields: Mapping[str, Any]
  images: bool = True
  most_seeds: int = 20
  rows: tuple[str, ...] = ()
  ranked: int = 300
  ranked_images: int = 1000


_COMMON = {
  'search.batch_size': 64, 'weights.learning_rate': 0.025, 'weights.final_learning_rate': 1e-3,
  'weights.schedule_by': 'step', 'log.cell_every': 0, 'checkpoint.keep_every_epochs': 10,
}  # fmt: skip

_PAPER = Scale(
  about='CIFAR-10, N 5, C 16, 32x32 pixels, 50 epochs of batch 64, all images',
  rate=3e-4,
  fields={
    **_COMMON, 'model.num_layers': 5, 'model.channels': 16, 'search.epochs': 50,
    'weights.weight_decay': 5e-4, 'weights.nesterov': True, 'weights.schedule_by': 'epoch',
  },
  ranked_images=25_000,
)  # fmt: skip

_PAPER_250 = _PAPER._replace(
  about=_PAPER.about.replace('50 epochs', '250 epochs'),
  fields={**_PAPER.fields, 'search.epochs': 250},
)

_GPU = Scale(
  about='CIFAR-10, N 1, C 16, 32x32 pixels, 50 epochs of batch 256, all images',
  rate=1e-2,
  fields={
    **_COMMON, 'model.num_layers': 1, 'model.channels': 16, 'search.epochs': 50,
    'search.batch_size': 256, 'weights.learning_rate': 0.1,
  },
  most_seeds=1,
  rows=('darts', 'darts_six_edges', 'darts_sc', 'milenas', 'milenas_sc'),
  ranked_images=5000,
)  # fmt: skip

_CPU = Scale(
  about='CIFAR-10, N 1, C 8, 16x16 pixels, 50 epochs of batch 64, 10,000 images',
  rate=1e-2,
  fields={
    **_COMMON, 'model.num_layers': 1, 'model.channels': 8, 'search.epochs': 50,
    'data.image_size': 16, 'data.fraction': 0.2, 'data.crop_padding': 2,
  },
)  # fmt: skip

_TINY = Scale(
  about="scikit-learn's digits, N 1, C 4, 8x8 pixels, 5 epochs of batch 64; the accuracies are of "
  'other images, and show only that the program works',
  rate=3e-2,
  fields={
    **_COMMON, 'model.num_layers': 1, 'model.channels': 4, 'search.epochs': 5,
    'checkpoint.keep_every_epochs': 1, 'data.name': 'digits', 'data.image_size': 8,
    'data.crop_padding': 1, 'data.flip': False,
  },
  images=False,
  most_seeds=2,
  rows=('darts', 'darts_six_edges', 'darts_sc', 'darts_sc_two_way'),
  ranked=20,
  ranked_images=200,
)  # fmt: skip

SCALES: Mapping[str, Scale] = {
  'paper': _PAPER, 'paper_250': _PAPER_250, 'gpu': _GPU, 'cpu': _CPU, 'tiny': _TINY,
}  # fmt: skip
