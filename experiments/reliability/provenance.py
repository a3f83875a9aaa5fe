"""Results of campaigns as files: figures with the machine, the versions and the day of them."""

import datetime
import json
import pathlib

from stretchnas_jax.runtime import files, machine, workdir

RESULTS = pathlib.Path(__file__).parents[1] / 'results' / 'reliability'
VERSIONS = ('jax', 'jaxlib', 'orbax-checkpoint', 'tensorstore', 'numpy')


def save(name, found, each=()):
  """Writes `found`, and each trial of a campaign on a line of its own."""
  now = datetime.datetime.now(datetime.UTC)
  head = {
    'date': now.date().isoformat(),
    'machine': machine.facts(),
    'versions': {n: v for n, v in workdir.versions(VERSIONS).items() if v},
    'commit': workdir.git_commit(),
    **found,
  }
  text = json.dumps(head, indent=1)
  if each:
    lines = ',\n  '.join(json.dumps(one) for one in each)
    text = f'{text[:-2]},\n "each": [\n  {lines}\n ]\n}}'
  RESULTS.mkdir(parents=True, exist_ok=True)
  files.replace(RESULTS / f'{name}.json', f'{text}\n'.encode())


def load(name):
  """What `save` has written; {} where there is nothing of its kind."""
  path = RESULTS / f'{name}.json'
  found = json.loads(path.read_bytes()) if path.exists() else {}
  return found if 'commit' in found else {}
