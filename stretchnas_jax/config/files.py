"""Config files: those of the package by name, others by path.

`--config` and everything that reads it again take the same texts: `digits`, `darts_cifar10:second`,
`my/config.py`, `my/config.py:argument`. A file goes before a name.
"""

import ast
import importlib.abc
import importlib.util
import os
import pathlib
import sys
import types
from typing import NamedTuple

from stretchnas_jax.config import names as names_lib
from stretchnas_jax.config.defaults import ConfigDict


class Source(NamedTuple):
  """A config file, and the argument of its `get_config`.

  Attributes:
    path: of the file.
    argument: the text after the colon; None without a colon.
  """

  path: pathlib.Path
  argument: str | None

  @property
  def arguments(self) -> tuple[str, ...]:
    """The arguments of `get_config`."""
    return () if self.argument is None else (self.argument,)


def named() -> dict[str, pathlib.Path]:
  """Returns the config files of the package by name, in the order of the alphabet."""
  package = pathlib.Path(__file__).parents[1]
  # An installed package holds them; in the source tree they stand beside it.
  folders = (package / 'configs', package.parent / 'configs')
  folder = next((folder for folder in folders if (folder / 'digits.py').is_file()), folders[0])
  return {path.stem: path for path in sorted(folder.glob('*.py')) if path.stem != '__init__'}


def find(text: str) -> Source:
  """Returns the config file that a text names.

  Args:
    text: a path or a name of `named()`; then perhaps a colon and an argument.

  Raises:
    ValueError: there is no such file and no such name; the sentence says what was meant.
  """
  ends = [len(text), *(i for i in range(len(text) - 1, -1, -1) if text[i] == ':')][:20]
  for end in ends:
    if os.path.isfile(text[:end]):
      return Source(pathlib.Path(text[:end]), text[end + 1 :] if end < len(text) else None)
  name, colon, argument = text.partition(':')
  if (path := named().get(name)) is not None:
    return Source(path, argument if colon else None)
  raise ValueError(_not_found(name))


def _not_found(name: str) -> str:
  """Returns the sentence for a text that is neither a file nor a name."""
  shown = repr(name if len(name) <= 200 else name[:197] + '...')
  stem = pathlib.PurePath(name).name.removesuffix('.py')
  if '/' not in name and os.sep not in name and not name.endswith('.py'):
    hint = names_lib.did_you_mean(name, named()) or 'give the path of a file, or a name:'
    return f'--config: no config of the package is called {shown}; {hint} --config=help lists them'
  if stem in named():
    return (
      f'--config: no such file: {shown}; the package has a config of that name: --config={stem}'
    )
  return f'--config: no such file: {shown}; --config=help lists the configs of the package'


def load_module(path: pathlib.Path) -> types.ModuleType:
  """Runs a config file as a module; each file replaces the one before it.

  Args:
    path: of the file.
  """
  return run_text(path.read_bytes(), path, 'stretchnas_config_file')


def run_text(text: str | bytes, path: pathlib.Path, name: str) -> types.ModuleType:
  """Runs the text of a file as a module, which replaces another one of the same name.

  Args:
    text: the program.
    path: of the file, for traces.
    name: of the module.
  """
  loader = _TextLoader(text, path)
  spec = importlib.util.spec_from_loader(name, loader, origin=str(path))
  assert spec is not None  # a loader was given
  module = importlib.util.module_from_spec(spec)
  module.__file__ = str(path)
  sys.modules[name] = module  # dataclasses of the file look for their module there
  loader.exec_module(module)
  return module


class _TextLoader(importlib.abc.InspectLoader):
  """Loads a module from a text in memory; a compiled file in the folder never stands in for it.

  A compiled file may be older than the text, and still have its size and its second.
  """

  def __init__(self, text: str | bytes, path: pathlib.Path) -> None:
    self._text, self._path = text, path

  def get_source(self, fullname: str) -> str:
    """Returns the text."""
    del fullname
    return self._text if isinstance(self._text, str) else importlib.util.decode_source(self._text)

  def get_code(self, fullname: str) -> types.CodeType:
    """Returns the compiled text; its traces name the file."""
    del fullname
    return self.source_to_code(self._text, str(self._path))


def load(text: str) -> ConfigDict:
  """Returns the config that `--config=TEXT` would begin with; change its fields as you like.

  Args:
    text: as for `find`: `digits`, `darts_cifar10:second`, or the path of a file.

  Raises:
    ValueError: there is no such file and no such name; the sentence says what was meant.

  >>> load('milenas_sc_cifar10:12').model.num_layers
  12
  """
  source = find(text)
  return load_module(source.path).get_config(*source.arguments)


def summaries() -> list[tuple[str, str]]:
  """Returns each config of the package and the first line of its docstring; none of them runs.

  A config that takes an argument is shown as `NAME[:argument]`.
  """
  rows = []
  for name, path in named().items():
    tree = ast.parse(path.read_text('utf-8'))
    made = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    argument = next(
      (f.args.args[0].arg for f in made if f.name == 'get_config' and f.args.args), ''
    )
    about = (ast.get_docstring(tree) or '').splitlines()[:1]
    rows.append((f'{name}[:{argument}]' if argument else name, ''.join(about)))
  return rows
