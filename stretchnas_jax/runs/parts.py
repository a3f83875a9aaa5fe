"""A researcher's own objects for a run, in place of the objects that a config names.

They come from Python, `run_search(config, workdir, parts=...)`, or from a config file that defines
`get_parts(config)`. A run keeps the names of its own objects in `parts.json`. It keeps the text of
the config file in `parts.py`, so that the run can be loaded again.

That text is a program. It runs only on a machine whose user has run it before, or where the caller
says `trust=True`: the folder of a stranger runs nothing.
"""

import dataclasses
import hashlib
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stretchnas_jax.cells import graph as graph_lib
from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells import topology as topology_lib
from stretchnas_jax.config import ConfigDict, files
from stretchnas_jax.config import names as names_lib
from stretchnas_jax.runs import json_files, part_kinds
from stretchnas_jax.runs import trust as trust_lib
from stretchnas_jax.runs import workdir as workdir_lib

SOURCE, NAMES = 'parts.py', 'parts.json'
_WHOLE_SEARCH = ('data', 'phases')


class Source(NamedTuple):
  """A program that makes own objects.

  Attributes:
    text: of a Python file with a function `get_parts(config)`.
    config: the config it is called with, as nested dicts.
  """

  text: str
  config: dict

  @property
  def digest(self) -> str:
    """A text that changes with the program."""
    return hashlib.sha256(self.text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Parts:
  """A researcher's own objects; None takes the object that the config names.

  Attributes:
    space: a `SearchSpace`.
    operations: for each name of the space that is not built in, a function
      `(channels, stride) -> linen module`, see `Supernet`.
    topology: a `TopologyTable`, or a function `CellGraph -> TopologyTable`.
    relaxation: a `Relaxation`.
    rule: an update rule, see `learning.rules`.
    penalties: functions `(arch, op_weights, edge_scores, knobs) -> scalar`.
    knobs: `step -> {name: scalar}`, traced.
    decoding: how a cell is read off, see `cells.decoding`; or one rule for each cell type.
    weights_tx: an optax transformation of the weights, or a function of the number of steps that
      returns one.
    alpha_tx: the same for alpha.
    beta_tx: the same for beta.
    phases: dicts in place of `config.search.phases`, see `runs.phases`. They may hold functions.
    monitors: values `learning.monitors.Monitor`, which decide at the end of each epoch.
    data: the images, see `data.datasets.arrays.from_arrays`, or a `Dataset`.
    source: the config file that made these objects, or None.
  """

  space: space_lib.SearchSpace | None = None
  operations: Mapping[str, Callable] | None = None
  topology: topology_lib.TopologyTable | Callable | None = None
  relaxation: Any = None
  rule: Any = None
  penalties: tuple = ()
  knobs: Callable | None = None
  decoding: Any = None
  weights_tx: Any = None
  alpha_tx: Any = None
  beta_tx: Any = None
  phases: tuple = ()
  monitors: tuple = ()
  data: Any = None
  source: 'Source | None' = None

  @classmethod
  def of(cls, parts: 'Parts | Mapping | None', **more: Any) -> 'Parts':
    """Returns `Parts` from a mapping of their names, or from nothing.

    Args:
      parts: `Parts`, `{'space': ...}` or None.
      **more: fields that are set beside those; None leaves a field as it is.

    Raises:
      ValueError: a name is unknown, or an object is of the wrong kind.
    """
    names = _names()
    if isinstance(parts, Mapping):
      unknown = sorted(set(parts) - set(names))
      if unknown:
        hint = names_lib.did_you_mean(str(unknown[0]), names)
        hint = hint or f'its names are {names_lib.some(names)}'
        raise ValueError(f'parts has {unknown[0]!r}; {hint}')
      parts = {name: value for name, value in parts.items() if value is not None}
      part_kinds.check(parts)
      parts = cls(**parts)
    elif isinstance(parts, cls):
      part_kinds.check(vars(parts))
    elif parts is not None:
      raise ValueError(f'parts is a {type(parts).__name__}; it must be Parts or a dict')
    given = {name: value for name, value in more.items() if value is not None}
    return dataclasses.replace(parts or cls(), **given)

  def in_phase(self, own: Mapping[str, Any]) -> 'Parts':
    """Returns the objects of a phase: its own ones take the places of those of the search.

    Args:
      own: the objects of the phase by name.

    Raises:
      ValueError: a name or an object is wrong, or is of the whole search.
    """
    for name in _WHOLE_SEARCH:
      if name in own:
        raise ValueError(f'parts has {name!r}, which is of the whole search')
    found = Parts.of(own)
    return Parts.of(self, **{n: getattr(found, n) for n in own if own[n] is not None})

  def all_operations(self) -> dict[str, Callable]:
    """Returns the own operations of the search, and those of its phases alone."""
    found: dict[str, Callable] = {}
    for phase in self.phases:
      found |= phase.get('parts', {}).get('operations') or {}
    return {**found, **(self.operations or {})}

  def table(self, graph: graph_lib.CellGraph) -> topology_lib.TopologyTable | None:
    """Returns the own topology table over a graph, or None."""
    if self.topology is None or isinstance(self.topology, topology_lib.TopologyTable):
      return self.topology
    return self.topology(graph)

  def names(self) -> dict[str, Any]:
    """Returns a name for each own object; `config.json` keeps them, so that a resume agrees."""
    return part_kinds.names({name: getattr(self, name) for name in _names()})

  def keep(self, folder: workdir_lib.Workdir, steps_per_epoch: int) -> None:
    """Writes the names, and the program that makes the objects, to the folder of a run.

    Args:
      folder: of the run.
      steps_per_epoch: own optimizers may depend on the number of steps.
    """
    names = self.names()
    if not names:
      return
    if operations := self.all_operations():
      names['operations'] = sorted(operations)
    kept: dict[str, Any] = {'parts': names, 'steps_per_epoch': steps_per_epoch}
    if self.source is not None:
      path = folder.path / SOURCE
      if path.is_file() and path.read_text('utf-8') != self.source.text:
        logging.warning('%s was made by another text of its config file; the new one counts', path)
      folder.write_text(SOURCE, self.source.text)
      kept['config'] = self.source.config
      trust_lib.trust(self.source.digest)
    folder.write_json(NAMES, kept)


def from_config_file(source: pathlib.Path | str, config: ConfigDict) -> Parts:
  """Returns the objects of a config file that defines `get_parts`, or `Parts()`.

  Args:
    source: the value of `--config`, see `config.files.find`. The file has run already, for its
      `get_config`.
    config: the config with its overrides.

  Raises:
    ValueError: `get_parts` fails, or gives something else.
  """
  path = files.find(str(source)).path
  return _made(Source(path.read_text('utf-8'), config.to_dict()), path) or Parts()


def of_run(
  path: pathlib.Path, parts: 'Parts | Mapping | None' = None, trust: bool = False
) -> Parts:
  """Returns the own objects with which a run was made, without its images from Python.

  Args:
    path: the folder of the run.
    parts: the objects, where the caller has them.
    trust: run the program that the folder keeps, from wherever it came; this machine remembers it.

  Raises:
    ValueError: the run has own objects, and they cannot be had; the sentence names them.
  """
  if not (path / NAMES).is_file() or parts is not None:
    return Parts.of(parts)
  kept = json_files.read_object(path / NAMES)
  names = kept.get('parts', {})
  needed = ', '.join(name for name in names if name != 'data')
  if not (path / SOURCE).is_file():
    if not needed:
      return Parts()
    raise ValueError(
      f'{path} was made from Python with objects of your own ({needed}): give them again, for '
      'example load_trained(workdir, parts=...)'
    )
  source = Source((path / SOURCE).read_text('utf-8'), kept.get('config', {}))
  if trust:
    trust_lib.trust(source.digest)
  elif not trust_lib.is_trusted(source.digest):
    raise ValueError(
      f'{path} has objects of its own ({needed}). The program {path / SOURCE} makes them, and it '
      'never ran on this machine: read it, then give --trust once, in Python trust=True, or else '
      'parts=...'
    )
  made = _made(source, path / SOURCE) or Parts()
  # A training may use some parts only of the program that made its cell.
  found = {name: getattr(made, name) for name in _names() if name in names}
  if 'operations' in names:
    found['operations'] = made.all_operations()
  return Parts(**found, source=source)


def steps_per_epoch(path: pathlib.Path) -> int:
  """Returns the steps of an epoch of a run with own objects; 1 where they do not matter.

  Args:
    path: the folder of the run.
  """
  kept = json_files.read_object(path / NAMES) if (path / NAMES).is_file() else {}
  return kept.get('steps_per_epoch', 1)


def operation_names(path: pathlib.Path) -> tuple[str, ...]:
  """Returns the names of a run's own operations; reading them runs no program.

  Args:
    path: the folder of the run.
  """
  if not (path / NAMES).is_file():
    return ()
  kept = json_files.read_object(path / NAMES).get('parts')
  found = kept.get('operations') if isinstance(kept, dict) else None
  return tuple(name for name in found or () if isinstance(name, str))


def _made(source: Source, path: pathlib.Path) -> Parts | None:
  """Runs a program; returns the objects of its `get_parts`, or None without that function."""
  try:
    module = files.run_text(source.text, path, 'stretchnas_own_parts')
    if not hasattr(module, 'get_parts'):
      return None
    found = module.get_parts(ConfigDict(source.config))
  except Exception as error:  # a config file is a program, and can raise anything
    kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
    raise ValueError(f'{path}: get_parts(): {kind}{error}') from error
  if not isinstance(found, (Parts, Mapping)):
    raise ValueError(f'{path}: get_parts() returns a {type(found).__name__}, not a dict or Parts')
  return Parts.of(found, source=source)


def _names() -> list[str]:
  """Returns the names of the own objects of a run."""
  return [field.name for field in dataclasses.fields(Parts) if field.name != 'source']
