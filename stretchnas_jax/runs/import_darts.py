"""Networks that the code of DARTS has trained with PyTorch, as networks and runs here."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches.feeds import Feeds
from stretchnas_jax.networks import darts_weights
from stretchnas_jax.networks.network import FixedNetwork
from stretchnas_jax.runs import (
  checkpoint,
  find_cell,
  identity,
  json_files,
  resuming,
  train_plan,
  train_task,
  weight_files,
)
from stretchnas_jax.runs import plan as plan_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.task import Plan
from stretchnas_jax.runs.workdir import Refused
from stretchnas_jax.views import cells


def load_darts(
  weights: pathlib.Path | str | Mapping[str, Any], cell: Genotype | str
) -> tuple[FixedNetwork, dict[str, PyTree]]:
  """Reads a network that the code of DARTS has trained with PyTorch.

  Args:
    weights: a file of safetensors, a checkpoint of PyTorch, or a `state_dict`: arrays or tensors
      by their names. Nothing in a file is run.
    cell: its genotype, or all that `--genotype` takes, for example 'DARTS_V2'. The edges of a node
      have the order of DARTS' code.

  Returns:
    `(net, variables)`: `net.apply(variables, images)` gives the logits of images that are
    normalised as in the training there.

  Raises:
    ValueError, OSError: the file cannot be read, or weights and cell do not belong together. One
      sentence names the first wrong weight.

  Example:
    >>> net, variables = load_darts('cifar10_model.safetensors', 'genotype.json')
    >>> net.channels, net.num_layers, net.num_classes
    (2, 1, 10)
  """
  given = weights if isinstance(weights, Mapping) else weight_files.read(weights)
  arrays = {name: weight_files.array_of(x) for name, x in given.items()}
  found = darts_weights.without_wrappers(arrays)
  genotype = cell if isinstance(cell, Genotype) else _darts_cell(cell)
  variables = darts_weights.variables_of(found, genotype)
  return darts_weights.network_of(darts_weights.sizes_of(found), genotype), variables


def planned(
  weights: pathlib.Path | str | Mapping[str, Any],
  cell: Genotype | str,
  config: ConfigDict,
  workdir: pathlib.Path | str,
  argv: Sequence[str] = (),
) -> Callable[[], FixedNetwork]:
  """Checks weights, cell and data; returns the function that writes the folder of a training.

  The first checkpoint of that training has the weights of DARTS' code.

  Args:
    weights: as for `load_darts`.
    cell: as for `load_darts`.
    config: of a training on the same data set. The sizes in its group `model` are taken from the
      weights.
    workdir: a new folder.
    argv: the command line, for the record.

  Returns:
    A function that writes, and returns the network.

  Raises:
    ValueError, OSError: one sentence says what is wrong. Nothing was written.
  """
  net, variables = load_darts(weights, cell)
  path = workdir_lib.absolute(workdir)
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise Refused(f'workdir {path} is not empty: choose another one')
  config = config.copy_and_resolve_references()
  for name in ('channels', 'num_layers', 'stem', 'auxiliary'):
    config.model[name] = getattr(net, name)
  workdir_lib.check_outside(path, config)
  plan = train_plan.plan_train(config, genotype=net.genotype)
  try:
    _check_data(net, variables, plan.feeds)
  except ValueError:
    plan.close()
    raise
  return functools.partial(_write, plan, net, variables, path, tuple(argv))


def _write(
  plan: Plan,
  net: FixedNetwork,
  variables: Mapping[str, PyTree],
  path: pathlib.Path,
  argv: Sequence[str],
) -> FixedNetwork:
  """Writes the folder of a planned training, with a checkpoint before its first step."""
  feeds, seed = plan.feeds, plan.config.seed
  facts, about = identity.facts_of(feeds.fingerprint), plan_lib.data_facts(feeds)
  with contextlib.closing(plan):
    folder = workdir_lib.Workdir.open(path, plan.fields, argv=argv, facts=facts, data=about)
    with folder, checkpoint.Checkpoints(path / 'checkpoints') as saved:
      folder.write_text('genotype.json', genotype_lib.to_json(net.genotype))
      folder.write_text('cells.svg', cells.svg(net.genotype))
      first = functools.partial(train_task.first_position, keep_best=feeds.val is not None)
      position = first(plan.objects.training, jax.random.key(seed))
      state = position.state._replace(**jax.tree.map(jnp.asarray, dict(variables)))
      identified = {'identity': json_files.plain(resuming.identity_of(plan, folder))}
      saved.save(0, position._replace(state=state), identified)
  return net


def _darts_cell(text: str) -> Genotype:
  """Returns the cell that a text names."""
  found = find_cell.genotype_from(text)
  if not isinstance(found, Genotype):
    raise ValueError(f"{text!r} is not a cell of DARTS' networks, which have two kinds of cells")
  return found


def _check_data(net: FixedNetwork, variables: Mapping[str, PyTree], feeds: Feeds) -> None:
  """Raises ValueError unless the network fits the data set."""
  classes = len(feeds.class_names)
  if net.num_classes != classes:
    raise ValueError(f'the weights have {net.num_classes} classes; {feeds.name} has {classes}')
  first = variables['params']['stem']['conv' if net.stem == 'cifar' else 'conv_0']['kernel']
  channels = np.shape(first)[2], feeds.image_shape[2]
  if channels[0] != channels[1]:
    raise ValueError(
      f'the weights take images of {channels[0]} channels; those of {feeds.name} have {channels[1]}'
    )
