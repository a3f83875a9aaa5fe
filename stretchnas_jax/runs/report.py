"""Writes a page about a run, in one file that loads nothing."""

import logging
import pathlib

from stretchnas_jax.machine import files
from stretchnas_jax.runs import (
  json_files,
  outputs,
  overview,
  report_confusion,
  report_parts,
  report_search,
  report_seeds,
  report_training,
)
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.views import page

NAME = 'report.html'

# A training of fewer seconds is not measured again at its end, as this compiles its network.
_WORTH_SECONDS = 60


def checked(
  run: pathlib.Path | str, out: pathlib.Path | str | None = None, force: bool = False
) -> tuple[pathlib.Path, pathlib.Path]:
  """Returns the folder of a run and the file for its page.

  Args:
    run: the folder.
    out: the file; None for `report.html` in the folder.
    force: whether another program's file may be replaced.

  Raises:
    ValueError, OSError: there is no run, or the file may not be written.
  """
  path = workdir_lib.absolute(run)
  if not overview.is_run(path):
    raise FileNotFoundError(f'{path} is not a run: it has no config.json')
  if out is None or pathlib.Path(out).absolute() == path / NAME:
    return path, path / NAME
  return path, outputs.check_free(out, outputs.is_marked, force)


def write(
  run: pathlib.Path | str,
  out: pathlib.Path | str | None = None,
  images: int = 0,
  trust: bool = False,
) -> pathlib.Path:
  """Writes the page of a run, in any state: finished, at work, stopped or damaged.

  Args:
    run: its folder, or that of several seeds.
    out: the file; None for `report.html` in the folder.
    images: of a training, the number of images that are measured for the confusion of classes,
      where none were before; 0 for none.
    trust: run the program of the run's own parts, see `parts.of_run`.

  Returns:
    The path of the file.

  Raises:
    ValueError, OSError: there is no run, or the file cannot be written.
  """
  path, file = checked(run, out, force=True)
  why = ''
  if images and not report_confusion.is_known(path):
    why = report_confusion.measure(path, images, trust)
  files.replace(file, html_of(path, why).encode('utf-8'))
  return file


def html_of(path: pathlib.Path, why: str = '') -> str:
  """Returns the page of a run.

  Args:
    path: its folder.
    why: of a training, why the confusion of its classes could not be measured.
  """
  if overview.has_seeds(path):
    title, lead, sections, data = report_seeds.page_of(path)
  else:
    run = overview.read(path)
    is_training = run.kind == 'train'
    made = report_training.page_of(run, why) if is_training else report_search.page_of(run)
    title, lead, sections, data = made
  text = page.document(title, lead, sections, json_files.plain(data))
  return outputs.marked(f'{text}<!-- {outputs.MARK} -->\n'.encode()).decode()


def at_the_end(path: pathlib.Path, seconds: float) -> None:
  """Writes the page of a run that has ended. A failure is said, and ends nothing.

  Args:
    path: the folder of the run.
    seconds: that the run took.
  """
  try:
    write(path, images=report_parts.IMAGES if seconds >= _WORTH_SECONDS else 0)
  except Exception as error:  # a page is worth no run
    logging.warning('%s was not written: %s', path / NAME, error)
