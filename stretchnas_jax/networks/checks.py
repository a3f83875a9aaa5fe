"""Checks of the arguments of networks, each with one clear sentence, and the kind of machine."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stretchnas_jax.cells.space import CELL_TYPES


def check_size(name: str, value: Any, even: bool = False) -> None:
  """Raises ValueError unless a value is a positive whole number.

  Args:
    name: the name of the value in the message.
    value: any value.
    even: whether the number must be even too.
  """
  whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
  if not whole or value < 1 or (even and value % 2):
    raise ValueError(f'{name} is {value!r}; it must be a positive {"even " * even}whole number')


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
  """Raises ValueError unless a value is one of the allowed names.

  Args:
    name: the name of the value in the message.
    value: any value.
    allowed: the allowed names.
  """
  if value not in allowed:
    raise ValueError(f'{name} is {value!r}; allowed are {", ".join(allowed)}')


def check_for_cell_types(
  name: str,
  values: Mapping[str, Any],
  shape: tuple[int, ...],
  cell_types: Sequence[str] = CELL_TYPES,
  layers: Mapping[str, int] | None = None,
) -> None:
  """Raises ValueError unless there is an array of a shape for each cell type.

  Args:
    name: the name of the mapping in the message.
    values: arrays by cell type.
    shape: the shape that each of them must have.
    cell_types: the types of cell.
    layers: the number of layers of each cell type, if an array may have them as a first axis.
  """
  for cell_type in cell_types:
    if cell_type not in values:
      raise ValueError(f'{name} has no {cell_type!r}; it must have {" and ".join(cell_types)}')
    found = np.shape(values[cell_type])
    own = layers is not None and len(found) > len(shape)
    expected = (layers[cell_type], *shape) if layers is not None and own else shape
    if found != expected:
      raise ValueError(
        f'{name}[{cell_type!r}] has the shape {list(found)}; it must be {list(expected)}, as the '
        'search space has it'
      )


def form_of(form: str, elsewhere: str, platform: str | None = None) -> str:
  """Returns the form of a network for a platform.

  Args:
    form: of the config; 'auto' chooses by the platform.
    elsewhere: the form where the platform is not a CPU.
    platform: 'cpu', 'gpu' or 'tpu'; None for that on which JAX computes by default.
  """
  if form != 'auto':
    return form
  return 'planes' if (platform or jax.default_backend()) == 'cpu' else elsewhere
