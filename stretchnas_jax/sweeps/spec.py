"""What an experiment is: searches, the runs that use their cells, and what is compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple

CIFAR10, IMAGENET = 'configs/train_cifar10.py', 'configs/train_imagenet.py'

# The only search whose images are those of ImageNet.
IMAGENET_SEARCH = 'configs/milenas_sc_imagenet.py'

# What is measured of a run -> what it is called.
MEASURES = {
  'test_error_percent': 'test error, %',
  'depth': 'depth of the normal cell',
}


class Search(NamedTuple):
  """A search, one run for each seed."""

  config: str  # `FILE[:arg]`
  layers: int
  overrides: Mapping[str, Any] = {}


class Paper(NamedTuple):
  """The figures that the paper prints for a row; None where it prints none."""

  error: float | None = None  # %; on ImageNet top-1
  std: float | None = None
  params: float | None = None  # millions
  flops: float | None = None  # millions, as papers on cells count
  days: float | None = None  # of search, on a GTX 1080 Ti
  top5: float | None = None  # error, %


class Run(NamedTuple):
  """One row of a table, or one point of a curve: a cell, trained once for each seed.

  The cell of seed s is that of the search with seed s: a run is a whole repetition, so that its
  deviation is that of search and training together.

  Attributes:
    title: as the paper calls it.
    cell: the name of a search, or `NAME@20` for its cell after epoch 20 of the paper's 50; a name
      of the zoo; `random`, or `random_ops:NAME` for random operations on the edges of a search's
      cell, where a short training chooses among several drawings. None: a figure of others that
      is shown beside ours, and not run here.
    layers: of the network; None where the search alone is what is looked at.
    params: wanted number of parameters, in millions, reached by choosing C.
    paper: what the paper prints.
    series, x: the curve of a plot that the run is a point of, and where.
    recipe: config of the training.
  """

  title: str
  cell: str | None = None
  layers: int | None = None
  params: float | None = None
  paper: Paper = Paper()
  series: str = ''
  x: float | None = None
  recipe: str = CIFAR10


class Experiment(NamedTuple):
  """A table or a figure of the paper.

  Attributes:
    title: one line.
    searches: `{name: Search}`, at least those that the runs name.
    runs: `{key: Run}`.
    comparisons: pairs of keys; the second is subtracted from the first, seed by seed.
    x: what the runs' x is, for the plot.
    measure: a key of `MEASURES`.
    remarks: what differs from the paper, a sentence each.
  """

  title: str
  searches: Mapping[str, Search]
  runs: Mapping[str, Run]
  comparisons: tuple[tuple[str, str], ...] = ()
  x: str = ''
  measure: str = 'test_error_percent'
  remarks: tuple[str, ...] = ()
