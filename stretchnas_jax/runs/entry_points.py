"""Runs from Python: `run_search` and `run_train`, and the checks that the commands share."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.machine import devices, start
from stretchnas_jax.runs import find_cell, runner, starting
from stretchnas_jax.runs import parts as parts_lib
from stretchnas_jax.runs.loop import OnEpoch
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.results import Result
from stretchnas_jax.runs.search_task import SEARCH
from stretchnas_jax.runs.train_task import train_task

Work = Callable[[], dict | None]
Cell = genotype_lib.AnyGenotype | str | pathlib.Path


def run_search(
  config: ConfigDict,
  workdir: pathlib.Path | str,
  seeds: Sequence[int] | None = None,
  *,
  parts: Parts | Mapping[str, Any] | None = None,
  data: Any = None,
  on_epoch: OnEpoch | None = None,
  start_from: pathlib.Path | str | None = None,
) -> Result | None:
  """Searches a cell: the whole search program as a function.

  Args:
    config: from `config.search_config()`, or from a config file's `get_config()`.
    workdir: the folder of the run; a stopped run goes on there.
    seeds: for several runs, in `workdir/seed_0` and so on; None for one, with `config.seed`. On
      several devices they run beside each other, see `config.parallel.seeds`.
    parts: your own objects, `Parts` or a dict of its fields, for example
      `{'space': ..., 'operations': ..., 'topology': ..., 'relaxation': ...}`.
    data: your own images: `(images, labels)`, or `{'train': ..., 'val': ..., 'test': ...}` of such
      pairs. See `data.datasets.arrays.from_arrays`.
    on_epoch: `(line, state)`, called after each epoch with its line of metrics, when its checkpoint
      is saved. Where it returns True, the run stops, and so do later seeds; the same call goes on
      from there. Copy what you keep of `state`: the next step reuses its memory. With it, seeds
      run one after the other.
    start_from: the folder of another search, whose weights, alpha and beta are the first ones here.
      Schedules, optimizers and random draws begin as in a new search.

  Returns:
    The content of `result.json`, a dict that notebooks show as a table; None where `on_epoch`
    stopped the run.

  Raises:
    ValueError, OSError: one sentence that names what is wrong.

  Example:
    >>> from stretchnas_jax import config as config_lib
    >>> config = config_lib.search_config()
    >>> config.data.name, config.data.image_size, config.data.flip = 'digits', 8, False
    >>> config.space.num_intermediate = config.model.num_layers = 1
    >>> config.model.channels, config.search.epochs, config.search.batch_size = 2, 1, 32
    >>> result = run_search(config, 'runs/new')
    >>> result['epochs']
    1
  """
  start.set_up()
  devices.start()
  given = Parts.of(parts, data=data)
  work = prepare_search(
    config, workdir, seeds, parts=given, on_epoch=on_epoch, start_from=start_from
  )
  return _as_result(work())


def run_train(
  config: ConfigDict,
  workdir: pathlib.Path | str,
  genotype: Cell,
  seeds: Sequence[int] | None = None,
  target_params: float | int | None = None,
  *,
  parts: Parts | Mapping[str, Any] | None = None,
  data: Any = None,
  on_epoch: OnEpoch | None = None,
  start_from: pathlib.Path | str | None = None,
) -> Result | None:
  """Trains a cell from scratch: the whole training program as a function.

  Args:
    config: from `config.train_config()`, or from a config file's `get_config()`.
    workdir: as for `run_search`.
    genotype: a `Genotype`, or a name of one: a name of the zoo, a file, or the folder of a search.
    seeds: as for `run_search`.
    target_params: a number of parameters for which C is chosen, in place of `model.channels`.
    parts: as for `run_search`; a training uses `operations` and `weights_tx`. By default the
      operations come from the search that found the cell, and the optimizer from the config.
    data: as for `run_search`.
    on_epoch: as for `run_search`.
    start_from: the folder of another training of the same cell, whose weights are the first ones.

  Returns:
    The content of `result.json`, a dict that notebooks show as a table; None where `on_epoch`
    stopped the run.

  Raises:
    ValueError, OSError: one sentence that names what is wrong.

  Example:
    >>> from stretchnas_jax import config as config_lib
    >>> config = config_lib.train_config()
    >>> config.data.name, config.data.image_size, config.data.flip = 'digits', 8, False
    >>> config.model.channels, config.model.num_layers, config.model.auxiliary = 4, 1, False
    >>> config.train.epochs = 1
    >>> result = run_train(config, 'runs/new', 'runs/digits')  # the cell of that search
    >>> 0 <= result['test_accuracy'] <= 1
    True
  """
  start.set_up()
  devices.start()
  given = Parts.of(parts, data=data)
  work = prepare_train(
    config,
    workdir,
    genotype,
    seeds,
    target_params,
    parts=given,
    on_epoch=on_epoch,
    start_from=start_from,
  )
  return _as_result(work())


def prepare_search(
  config: ConfigDict,
  workdir: pathlib.Path | str,
  seeds: Sequence[int] | None = None,
  *,
  parts: Parts | None = None,
  argv: Sequence[str] = (),
  on_epoch: OnEpoch | None = None,
  start_from: pathlib.Path | str | None = None,
) -> Work:
  """Checks everything that a search needs; returns the function that searches.

  Args:
    config: as for `run_search`, and so are `workdir`, `seeds`, `parts` and `on_epoch`.
    workdir: the folder.
    seeds: of several runs.
    parts: own objects.
    argv: the command line, for the record.
    on_epoch: the hook.
    start_from: the folder of another run.
  """
  start = starting.read(start_from, workdir, 'search', parts, seeds)
  return runner.prepare(
    SEARCH, config, workdir, seeds, argv=argv, parts=parts, on_epoch=on_epoch, start=start
  )


def prepare_train(
  config: ConfigDict,
  workdir: pathlib.Path | str,
  genotype: Cell,
  seeds: Sequence[int] | None = None,
  target_params: float | int | None = None,
  *,
  parts: Parts | None = None,
  trust: bool = False,
  argv: Sequence[str] = (),
  on_epoch: OnEpoch | None = None,
  start_from: pathlib.Path | str | None = None,
) -> Work:
  """Checks everything that a training needs; returns the function that trains.

  Args:
    config: as for `run_train`, and so are the arguments down to `parts` and `on_epoch`.
    workdir: the folder.
    genotype: the cell.
    seeds: of several runs.
    target_params: chooses C.
    parts: own objects.
    trust: run the program that makes own operations of the cell's run, see `parts.of_run`.
    argv: the command line, for the record.
    on_epoch: the hook.
    start_from: the folder of another run.
  """
  parts = parts or Parts()
  if not isinstance(genotype, genotype_lib.AnyGenotype):
    parts = _with_operations(parts, genotype, trust)
    genotype = find_cell.genotype_from(genotype, tuple(parts.all_operations()))
  task = train_task(genotype, target_params)
  start = starting.read(start_from, workdir, 'train', parts, seeds)
  return runner.prepare(
    task, config, workdir, seeds, argv=argv, parts=parts, on_epoch=on_epoch, start=start
  )


def _as_result(found: dict | None) -> Result | None:
  return None if found is None else Result(found)


def _with_operations(parts: Parts, genotype: str | pathlib.Path, trust: bool) -> Parts:
  """Adds the own operations of the search that found a cell, where there are any."""
  folder = find_cell.run_of(genotype)
  given = parts.operations is not None or parts.all_operations()
  if given or folder is None or not parts_lib.operation_names(folder):
    return parts
  found = parts_lib.of_run(folder, trust=trust)
  if parts.source is not None and found.source is not None:
    raise ValueError(
      f'the cell of {folder} has own operations, and this config has own parts: give the '
      'operations in its get_parts() too'
    )
  return Parts.of(parts, operations=found.operations, source=found.source)
