"""Describes data sets of TFDS: which parts they have, and where an example has image and label."""

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from stretchnas_jax.data.datasets import listing

if TYPE_CHECKING:  # slow to import
  from tensorflow_datasets.core import DatasetBuilder

PREFIX = 'tfds:'
"""Begins the name of a data set of TFDS in `data.name`."""


class Keys(NamedTuple):
  """The names of the features of an example that hold its image and its label."""

  image: str
  label: str


def parts_of(name: str, data_dir: str | os.PathLike | None = None) -> dict[str, str]:
  """Returns the split of TFDS for each part, 'train', 'val' and 'test', that a data set has.

  Args:
    name: of the data set in TFDS.
    data_dir: where it is prepared; None is TFDS' default folder.

  Raises:
    FileNotFoundError, ValueError: there is no such data set, or it has no split for training.
  """
  builder = find_builder(name, data_dir)
  found: dict[str, str] = {}
  for split in builder.info.splits or ():
    if part := listing.part_of(split):
      found.setdefault(part, split)
  if builder.info.splits and 'train' not in found:
    raise ValueError(f'tfds:{name} has the splits {", ".join(builder.info.splits)}, and no train')
  return found or {'train': 'train'}  # the data set is not prepared, as opening it will say


def find_builder(name: str, data_dir: str | os.PathLike | None) -> 'DatasetBuilder':
  """Returns the description of a data set; reads no example.

  Args:
    name: of the data set in TFDS.
    data_dir: where it is prepared; None is TFDS' default folder.

  Raises:
    ValueError: TFDS has no data set of that name.
  """
  import tensorflow_datasets  # slow to import, and only a few runs need it

  try:
    return tensorflow_datasets.builder(name, data_dir=data_dir)
  except Exception as error:  # its type depends on the part of the name that is wrong
    reason = ' '.join(str(error).split()).partition(' Available datasets')[0][:200]
    raise ValueError(
      f'tfds:{name} is not a data set that TFDS knows or has prepared in '
      f'{data_dir or "its default folder"} ({reason}); '
      'tensorflow_datasets.list_builders() has the names'
    ) from error


def class_names(name: str, data_dir: str | os.PathLike | None) -> tuple[str, ...]:
  """Returns the names of the classes, in the order of the labels.

  Args:
    name: of the data set in TFDS.
    data_dir: where it is prepared; None is TFDS' default folder.
  """
  builder = find_builder(name, data_dir)
  return tuple(builder.info.features[keys_of(builder).label].names)


def version_of(name: str, data_dir: str | os.PathLike | None) -> str:
  """Returns a text that changes when a data set is prepared in another way.

  Args:
    name: of the data set in TFDS.
    data_dir: where it is prepared; None is TFDS' default folder.
  """
  info = os.path.join(find_builder(name, data_dir).data_dir, 'dataset_info.json')
  with open(info, 'rb') as file:  # it has the version, and the size of each part
    return hashlib.file_digest(file, 'sha256').hexdigest()[:32]


def are_grey(name: str, data_dir: str | os.PathLike | None) -> bool:
  """Tells whether the images have one channel.

  Args:
    name: of the data set in TFDS.
    data_dir: where it is prepared; None is TFDS' default folder.
  """
  builder = find_builder(name, data_dir)
  return builder.info.features[keys_of(builder).image].shape[-1] == 1


def keys_of(builder: 'DatasetBuilder') -> Keys:
  """Returns the names of the features that hold the image and the label of an example.

  Args:
    builder: of the data set.

  Raises:
    ValueError: the data set has no image or no class label.
  """
  from tensorflow_datasets import features as kinds  # slow to import

  features = builder.info.features
  found = []
  for kind, usual in ((kinds.Image, 'image'), (kinds.ClassLabel, 'label')):
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    if not names:
      raise ValueError(
        f'tfds:{builder.name} has no {usual} to learn from; its features are '
        f'{", ".join(features)}; choose a data set of classified images'
      )
    found.append(usual if usual in names else names[0])
  return Keys(*found)
