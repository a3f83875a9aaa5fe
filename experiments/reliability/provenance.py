"""Files of results of campaigns: figures with their machine, versions, day and commit."""

import datetime
import json
import pathlib
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from stretchnas_jax.machine import facts, files
from stretchnas_jax.runs import record

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / 'experiments' / 'results' / 'reliability'

_VERSIONS = ('jax', 'jaxlib', 'orbax-checkpoint', 'tensorstore', 'numpy')


def save(name: str, found: Mapping[str, Any], each: Iterable[Any] = ()) -> None:
  """Writes the results of a campaign.

  Args:
    name: of the file, without its ending.
    found: the figures.
    each: the trials; each of them gets a line of its own.
  """
  now = datetime.datetime.now(datetime.UTC)
  versions = {name: version for name, version in record.versions(_VERSIONS).items() if version}
  head = {
    'date': now.date().isoformat(),
    'machine': facts.facts(),
    'versions': versions,
    'commit': commit(),
    **found,
  }
  text = json.dumps(head, indent=1)
  lines = ',\n  '.join(json.dumps(one) for one in each)
  if lines:
    text = f'{text[:-2]},\n "each": [\n  {lines}\n ]\n}}'
  write(name, text)


def write(name: str, text: str) -> None:
  """Writes a file of results.

  Args:
    name: of the file, without its ending.
    text: a JSON object.
  """
  RESULTS.mkdir(parents=True, exist_ok=True)
  files.replace(RESULTS / f'{name}.json', f'{text}\n'.encode())


def load(name: str) -> dict[str, Any]:
  """Returns the object that `save` has written; {} where there is no such file."""
  path = RESULTS / f'{name}.json'
  found = json.loads(path.read_bytes()) if path.exists() else {}
  return found if 'commit' in found else {}


def commit() -> str | None:
  """Returns the commit of the sources, with `-dirty` for edited ones; results do not count."""
  git = ['git', '-C', str(ROOT)]
  answer = subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True)
  if answer.returncode:
    return None
  sources = ['stretchnas_jax', 'experiments/reliability']
  edited = subprocess.run([*git, 'diff', '--quiet', 'HEAD', '--', *sources]).returncode
  return answer.stdout.strip() + ('-dirty' if edited else '')
