"""Results of campaigns as files: figures with the machine, the versions and the day of them."""

import datetime
import json
import pathlib
import subprocess

from stretchnas_jax.machine import facts, files
from stretchnas_jax.runs import record

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / 'experiments' / 'results' / 'reliability'
VERSIONS = ('jax', 'jaxlib', 'orbax-checkpoint', 'tensorstore', 'numpy')


def save(name, found, each=()):
  """Writes `found`, and each trial of a campaign on a line of its own."""
  now = datetime.datetime.now(datetime.UTC)
  head = {
    'date': now.date().isoformat(),
    'machine': facts.facts(),
    'versions': {n: v for n, v in record.versions(VERSIONS).items() if v},
    'commit': commit(),
    **found,
  }
  text = json.dumps(head, indent=1)
  if each:
    lines = ',\n  '.join(json.dumps(one) for one in each)
    text = f'{text[:-2]},\n "each": [\n  {lines}\n ]\n}}'
  RESULTS.mkdir(parents=True, exist_ok=True)
  files.replace(RESULTS / f'{name}.json', f'{text}\n'.encode())


def commit():
  """The commit of the sources, with `-dirty` for edited ones; results may change meanwhile."""
  git = ['git', '-C', str(ROOT)]
  answer = subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True)
  edited = [*git, 'diff', '--quiet', 'HEAD', '--', 'stretchnas_jax', 'experiments/reliability']
  dirty = '-dirty' if subprocess.run(edited).returncode else ''
  return answer.stdout.strip() + dirty if answer.returncode == 0 else None


def load(name):
  """What `save` has written; {} where there is nothing of its kind."""
  path = RESULTS / f'{name}.json'
  found = json.loads(path.read_bytes()) if path.exists() else {}
  return found if 'commit' in found else {}
