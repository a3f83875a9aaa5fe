"""The parts of an experiment: searches, the runs that use their cells, and their comparisons."""

from collections.abc import Mapping
from typing import Any, NamedTuple

CIFAR10 = 'configs/train_cifar10.py'
IMAGENET = 'configs/train_imagenet.py'

# The only search whose images are those of ImageNet.
IMAGENET_SEARCH = 'configs/milenas_sc_imagenet.py'

# What the number of a run on the x axis may count; a scale has its own number for it.
LAYERS, EPOCHS = 'layers', 'epochs'

# Each measure, and its name on axes and in tables.
MEASURES = {
  'test_error_percent': 'test error, %',
  'depth': 'depth of the normal cell',
}


class Search(NamedTuple):
  """A search, which is run once for each seed.

  Attributes:
    config: `FILE[:argument]` of the search.
    layers: the number of layers of the supernet in the paper.
    overrides: config fields that differ from the file.
  """

  config: str
  layers: int
  overrides: Mapping[str, Any] = {}


class Paper(NamedTuple):
  """The figures that the paper prints for a row; None where it prints none.

  Attributes:
    error: the test error in percent; on ImageNet the top-1 error.
    std: the standard deviation of the error.
    params: millions of parameters.
    flops: millions, by the rule of papers on cells.
    days: GPU days of search, on a GTX 1080 Ti.
    top5: the top-5 error in percent.
  """

  error: float | None = None
  std: float | None = None
  params: float | None = None
  flops: float | None = None
  days: float | None = None
  top5: float | None = None


class Run(NamedTuple):
  """One row of a table, or one point of a curve: a cell that is trained once for each seed.

  The cell of a seed comes from the search with the same seed. So a seed is a whole repetition, and
  the deviation over seeds is that of search and training together.

  A cell is one of these:

  - the name of a search, or `NAME@20` for its cell after epoch 20 of the paper's 50 epochs;
  - a name of the zoo;
  - `random`, or `random_ops:NAME` for random operations on the edges of a search's cell; a short
    training may choose among several drawings;
  - None: a figure of others, which is shown beside ours and not run here.

  Attributes:
    title: the paper's name for it.
    cell: see above.
    layers: the number of layers of the network; None where only the search is measured.
    params: the wanted number of parameters in millions, reached by the choice of C.
    paper: the figures of the paper.
    series: the curve of a plot that the run belongs to.
    x: the place of the run on that curve.
    recipe: the config of the training.
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
    searches: at least the searches that the runs name.
    runs: each run by its key.
    comparisons: pairs of keys; the second run is subtracted from the first, seed by seed.
    x: the label of the x axis, for a plot with curves.
    x_counts: `LAYERS` or `EPOCHS` where that axis counts these; '' for other numbers.
    measure: a key of `MEASURES`.
    remarks: sentences on differences from the paper.
  """

  title: str
  searches: Mapping[str, Search]
  runs: Mapping[str, Run]
  comparisons: tuple[tuple[str, str], ...] = ()
  x: str = ''
  x_counts: str = ''
  measure: str = 'test_error_percent'
  remarks: tuple[str, ...] = ()
