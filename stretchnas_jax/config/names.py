"""Words about names: which one was meant, and lists that stay short."""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence

MOST = 8
"""The most names that a message lists."""


def some(names: Iterable[str]) -> str:
  """Returns names with commas between them; the names after the eighth are counted only."""
  names = list(names)
  if len(names) <= MOST:
    return ', '.join(names)
  return f'{", ".join(names[: MOST - 1])} and {len(names) - MOST + 1} more'


def similar(name: str, names: Collection[str]) -> list[str]:
  """Returns at most three names that were probably meant, the best first.

  Capitals, hyphens and underscores do not count. A name that begins with the given one is similar.

  Args:
    name: the given one; a long text is similar to nothing.
    names: the known names.
  """
  if len(name) > 100:
    return []
  plain, wanted = {known: _plain(known) for known in names}, _plain(name)
  equal = [known for known, text in plain.items() if text == wanted]
  longer = [known for known, text in plain.items() if len(wanted) > 2 and text.startswith(wanted)]
  close = difflib.get_close_matches(wanted, list(dict.fromkeys(plain.values())), n=3, cutoff=0.75)
  near = [known for text in close for known in names if plain[known] == text]
  return (equal or longer or near)[:3]


def did_you_mean(name: str, names: Collection[str], prefix: str = '') -> str:
  """Returns `did you mean X?`, or an empty text where no name is similar.

  Args:
    name: the given one.
    names: the known names.
    prefix: put before each shown name.
  """
  return question([prefix + known for known in similar(name, names)])


def question(names: Sequence[str]) -> str:
  """Returns `did you mean X or Y?`, or an empty text without names."""
  if not names:
    return ''
  *most, last = names
  return f'did you mean {", ".join(most)}{" or " if most else ""}{last}?'


def _plain(name: str) -> str:
  return re.sub(r'[^a-z0-9]', '', name.lower())
