"""Runs the commands of the README with an installed package, far from the source tree.

    python .ci/smoke.py README.md

Each command runs as it stands there. Searches and trainings are made small, by fields that follow.
"""

import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

import stretchnas_jax

SMALL = {
  'search': 'search.epochs=1 search.batch_size=32 model.channels=2 model.num_layers=1 '
  'space.num_intermediate=2 data.fraction=0.2 log.cell_every=0',
  'train': 'train.epochs=1 train.batch_size=32 model.channels=4 model.num_layers=1 '
  'data.fraction=0.2',
}
_START = 'python -m stretchnas_jax.'


def commands_of(page: pathlib.Path) -> list[list[str]]:
  """Returns the commands of a page, each as a list of words after `python`."""
  lines = [line for line in page.read_text('utf-8').split('\n') if line.startswith(_START)]
  return [shlex.split(line, comments=True)[1:] for line in lines]


def run(words: list[str], folder: str) -> None:
  """Runs one command in a folder; ends this program where it fails.

  Args:
    words: `-m stretchnas_jax.NAME` and the rest.
    folder: where the command starts.
  """
  name = words[1].removeprefix('stretchnas_jax.')
  small = [f'--config.{field}' for field in SMALL.get(name, '').split()]
  start = time.monotonic()
  done = subprocess.run(
    [sys.executable, *words, *small], cwd=folder, capture_output=True, text=True
  )
  print(f'{time.monotonic() - start:5.1f} s  {" ".join(words[1:])}', flush=True)
  if done.returncode:
    sys.exit(f'{done.stdout}\n{done.stderr}\nexit code {done.returncode}')


def main() -> None:
  """Runs all commands of the page that the command line names."""
  page = pathlib.Path(sys.argv[1]).resolve()
  package = pathlib.Path(stretchnas_jax.__file__).parent
  if page.parent in package.parents:
    sys.exit(f'{package} is the source tree; start this with the Python of an installation')
  for part in ('py.typed', 'configs/digits.py', 'cells/zoo.json', 'views/report.css'):
    if not (package / part).is_file():
      sys.exit(f'the package lacks {part}')
  commands = commands_of(page)
  if len(commands) < 8:
    sys.exit(f'{page} has only {len(commands)} commands')
  with tempfile.TemporaryDirectory() as folder:
    run(['-m', 'stretchnas_jax.search', '--config=help'], folder)
    # The README compares with another run.
    run(['-m', 'stretchnas_jax.search', '--config=digits', '--workdir=runs/other'], folder)
    for words in commands:
      run(words, folder)


if __name__ == '__main__':
  main()
