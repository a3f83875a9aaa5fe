"""Surveys a folder of images before a run: counts, sizes, kinds of pixels, broken files, copies."""

import collections
import concurrent.futures
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stretchnas_jax.data.datasets import image_limits, images, listing, pixels
from stretchnas_jax.machine import facts as machine_facts

_SHOWN = 5  # sizes, kinds and files that are named


class Survey(NamedTuple):
  """Facts about the images of a folder.

  Attributes:
    found: the folder's parts, classes and files.
    sizes: the number of images of each (width, height).
    kinds: the number of images of each kind of pixels, as Pillow names it, for example 'RGB'.
    unreadable: sentences that name the images that cannot be read.
    copies: pairs of names of equal files in two parts, or with two labels.
    levels: says that images of 16 bits use a small part of their range; '' where they do not.
    values: the least and the greatest value in images of more than 8 bits, if there are any.
  """

  found: listing.Listing
  sizes: collections.Counter[tuple[int, int]]
  kinds: collections.Counter[str]
  unreadable: tuple[str, ...]
  copies: tuple[tuple[str, str], ...]
  levels: str
  values: tuple[float, float] | None


class _Facts(NamedTuple):
  """Facts about one file: width and height, kind of pixels, its values if it has more than 8 bits.

  `error` says why it cannot be read, or is ''.
  """

  size: tuple[int, int] | None = None
  kind: str = ''
  values: tuple[float, ...] = ()
  error: str = ''


def survey(
  found: listing.Listing,
  *,
  image_size: images.Size,
  value_range: images.Range | None = None,
) -> Survey:
  """Reads every image of a folder once.

  Args:
    found: the folder's files.
    image_size: to which a run scales the images.
    value_range: the values of black and white, see `images.to_rgb`.
  """
  levels = pixels.Levels(value_range)

  def look(path: str) -> _Facts:
    """Decodes an image, and returns facts about it."""
    facts = _Facts()
    try:
      with images.opened(path, path) as image:
        is_deep = images.has_16_bits(image)
        kind = (
          f'{image.mode} of 16 bits' if is_deep and not image.mode.startswith('I') else image.mode
        )
        facts = _Facts(image.size, kind)
        if is_deep or image.mode == 'F':
          with image_limits.room(image):
            facts = facts._replace(values=images.extremes(image))
        levels.seen(path, image, lambda: images.whole(image, image_size, value_range))
      return facts
    except ValueError as error:
      return facts._replace(error=str(error))

  paths = [path for part in found.files for path, _ in found.paths(part)]
  with concurrent.futures.ThreadPoolExecutor(2 * machine_facts.num_cores()) as pool:
    facts = list(pool.map(look, paths))
  values = [value for fact in facts for value in fact.values]
  message = ''
  try:
    levels.check()
  except ValueError as error:
    message = str(error)
  return Survey(
    found,
    collections.Counter(fact.size for fact in facts if fact.size),
    collections.Counter(fact.kind for fact in facts if fact.kind),
    tuple(fact.error for fact in facts if fact.error),
    tuple(_copies(found)),
    message,
    (min(values), max(values)) if values else None,
  )


def check_usable(survey: Survey, on_bad_image: str) -> None:
  """Raises BadImage where a run would not take the images.

  Args:
    survey: of the folder.
    on_bad_image: 'error', or 'skip' where a run goes on without images that cannot be read.
  """
  if survey.levels:
    raise images.BadImage(survey.levels)
  if survey.unreadable and on_bad_image == 'error':
    more = len(survey.unreadable) - 1
    raise images.BadImage(
      f'{survey.unreadable[0]}{f", and {more} more" * (more > 0)}; set data.on_bad_image to '
      "'skip' to go on without such images"
    )


def lines(survey: Survey) -> list[str]:
  """Returns a survey as lines for a person.

  Args:
    survey: the facts.
  """
  found = survey.found
  total = sum(map(len, found.files.values()))
  text = [f'folder    {found.root}: {len(found.class_names)} classes, {total} images']
  text += [
    f'{"parts" if part == "train" else "":10}{part} {len(files)}: '
    + counts_text(found.class_names, class_counts(found, part))
    for part, files in found.files.items()
  ]
  sizes = {f'{height}x{width}': count for (width, height), count in survey.sizes.items()}
  text += [f'sizes     height x width {_most(sizes)}', f'pixels    {_most(survey.kinds)}']
  if survey.values:
    low, high = survey.values
    text.append(f'values    {low:g} to {high:g} in images of more than 8 bits')
  return text + [f'warning   {warning}' for warning in _warnings(survey)]


def class_counts(found: listing.Listing, part: str) -> list[int]:
  """Returns the number of images of each class in a part.

  Args:
    found: the folder's files.
    part: name of the part.
  """
  counts = collections.Counter(label for _, label in found.files.get(part, ()))
  return [counts[label] for label in range(len(found.class_names))]


def counts_text(class_names: Sequence[str], counts: Sequence[int], most: int = 10) -> str:
  """Returns the number of images of each class, or of the smallest and the largest of many.

  Args:
    class_names: the names.
    counts: of images.
    most: so many classes are named.
  """
  if len(counts) <= most:
    return ', '.join(f'{name} {count}' for name, count in zip(class_names, counts))
  least, greatest = min(counts), max(counts)
  if least == greatest:
    return f'{least} images of each class'
  few, many = class_names[counts.index(least)], class_names[counts.index(greatest)]
  return f'{least} ({few}) to {greatest} ({many}) images of a class'


def _warnings(survey: Survey) -> Iterator[str]:
  """Yields a sentence for everything that a person should look at."""
  found = survey.found
  yield from found.sentences()
  parts, needed = ('val', 2) if 'val' in found.files else ('train', 3)
  small = [
    f'{name} {count}'
    for name, count in zip(found.class_names, class_counts(found, parts))
    if count < needed
  ]
  if small:
    yield (
      f'a search divides the images of {parts} into {needed} parts, and some classes have too few: '
      f'{_some(small)}'
    )
  if survey.levels:
    yield survey.levels
  if survey.copies:
    pairs = [f'{first} and {second}' for first, second in survey.copies]
    yield f'equal files in two parts or classes, {len(pairs)}: {_some(pairs)}'
  if survey.unreadable:
    total = sum(map(len, found.files.values()))
    yield f'{len(survey.unreadable)} of {total} images cannot be read: {_some(survey.unreadable)}'


def _copies(found: listing.Listing) -> Iterator[tuple[str, str]]:
  """Yields names of equal files in two parts, or with two labels."""
  by_size = collections.defaultdict(list)
  for part, files in found.files.items():
    for name, label in files:
      path = os.path.join(found.root, name)
      if os.path.isfile(path):
        by_size[os.path.getsize(path)].append((name, path, (part, label)))
  for same_size in by_size.values():
    if len({place for _, _, place in same_size}) < 2:
      continue
    first: dict[bytes, tuple[str, tuple[str, int]]] = {}
    for name, path, place in same_size:
      other, where = first.setdefault(_digest(path), (name, place))
      if where != place:
        yield other, name


def _digest(path: str) -> bytes:
  """Returns a digest of the content of a file; b'' and the path where it cannot be read."""
  try:
    with open(path, 'rb') as file:
      return hashlib.file_digest(file, 'blake2b').digest()
  except OSError:
    return path.encode('utf-8', 'surrogateescape')


def _most(counts: collections.Counter[str] | dict[str, int]) -> str:
  """Returns the most frequent names with their counts."""
  ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  words = [f'{name} ({count})' for name, count in ranked[:_SHOWN]]
  rest = len(ranked) - _SHOWN
  return ', '.join(words + [f'{rest} more'] * (rest > 0)) or 'none'


def _some(words: Sequence[str]) -> str:
  """Returns the first words, and the number of the others."""
  rest = len(words) - _SHOWN
  return '; '.join([*words[:_SHOWN], *[f'and {rest} more'] * (rest > 0)])
