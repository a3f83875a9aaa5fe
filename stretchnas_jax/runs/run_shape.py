"""The shape of a run's networks: channels, depth, classes, images. Nothing is built."""

import itertools
import pathlib
from typing import Any, NamedTuple

from stretchnas_jax.runs import checkpoint, identity, json_files, phases
from stretchnas_jax.runs import workdir as workdir_lib


class Shape(NamedTuple):
  """The arguments of `sizes.measure` for the networks of a run.

  Attributes:
    channels: C of the first cells.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'.
    image_shape: `(H, W, C)`.
  """

  channels: int
  num_layers: int
  num_classes: int
  stem: str
  image_shape: tuple[int, ...]


def read(run: pathlib.Path | str, epoch: int) -> Shape:
  """Reads the shape of a search's network off its folder.

  Args:
    run: the folder.
    epoch: counted from 1; its phase may have a network of its own.

  Raises:
    ValueError, OSError: the folder does not tell.
  """
  path = workdir_lib.absolute(run)
  values = json_files.read_object(path / 'config.json')
  try:
    model = _model(values, epoch)
    classes, shape = _of_identity(path) or _of_checkpoint(path)
    return Shape(
      int(model['channels']), int(model['num_layers']), classes, str(model['stem']), shape
    )
  except (AttributeError, KeyError, TypeError) as error:
    raise ValueError(f'{path} does not tell the shape of its networks') from error


def has_phases(run: pathlib.Path) -> bool:
  """Returns whether a search has phases; False where its config cannot be read."""
  try:
    return bool(_phases_of(json_files.read_object(run / 'config.json')))
  except (OSError, ValueError, AttributeError):
    return False


def _phases_of(values: dict) -> list[dict] | None:
  return values.get('parts', {}).get('phases') or values.get('search', {}).get('phases')


def _model(values: dict, epoch: int) -> dict[str, Any]:
  """Returns the fields of the model in the phase of an epoch."""
  given = _phases_of(values)
  if not given:
    return values['model']
  lengths = phases.scaled([phase['epochs'] for phase in given], values['search']['epochs'])
  number = sum(end < epoch for end in itertools.accumulate(lengths[:-1]))
  fields = given[number].items()
  own = {n.removeprefix('model.'): value for n, value in fields if n.startswith('model.')}
  return values['model'] | own


def _of_identity(path: pathlib.Path) -> tuple[int, tuple[int, ...]] | None:
  """Returns classes and image shape as the fingerprint has them; None where it lacks one."""
  known = identity.known(path)
  data: Any = (known or {}).get('data') or {}
  part = data.get('train')
  if not (isinstance(part, dict) and 'shape' in part and 'classes' in data):
    return None
  return len(data['classes']), tuple(part['shape'])


def _of_checkpoint(path: pathlib.Path) -> tuple[int, tuple[int, ...]]:
  """Returns classes and image shape as the newest checkpoint has them."""
  if not (path / 'checkpoints').is_dir():
    raise FileNotFoundError(f'{path} has no checkpoint yet')
  with checkpoint.Checkpoints(path / 'checkpoints', read_only=True) as saved:
    for _, meta in saved.metas():
      about = meta.get('identity')
      if isinstance(about, dict):
        return len(about['class_names']), tuple(about['image_shape'])
  raise FileNotFoundError(f'{path} has no checkpoint yet')
