"""Builds the documentation: `sphinx-build -W docs docs/_build`."""

import pathlib
import re
import subprocess
import sys

import stretchnas_jax
from stretchnas_jax.config import defaults
from stretchnas_jax.runs import build

project = 'StretchNAS'
author = copyright = 'The StretchNAS authors'
release = version = stretchnas_jax.__version__
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'StretchNAS {version}'

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 300
autodoc_typehints = 'signature'
autodoc_member_order = 'bysource'
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_attr_annotations = False

_HERE = pathlib.Path(__file__).parent
_COMMANDS = (
  'search', 'train', 'describe', 'draw', 'check_data', 'benchmark', 'export', 'runs', 'compare',
  'what_if', 'explain',
)  # fmt: skip


def _config_page() -> str:
  """Returns the page of all fields, from the one place that describes them."""
  lines = ['# Fields of a config', '']
  lines += ['`--config.FIELD=VALUE` after `--config` overrides any of them.', '']
  for kind in ('search', 'train'):
    lines += [
      f'## Fields of `{kind}`',
      '',
      '| field | default | meaning | allowed |',
      '|---|---|---|---|',
    ]
    for row in defaults.rows(kind, build.CHOICES):
      cells = [f'`{row.field}`', f'`{row.default}`', row.meaning, row.allowed]
      lines.append('| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |')
    lines.append('')
  return '\n'.join(lines)


def _commands_page() -> str:
  """Returns the page of all commands: what each prints for `--help`."""
  lines = [
    '# Commands',
    '',
    '`stretchnas NAME ...` is the same as `python -m stretchnas_jax.NAME ...`.',
    '',
  ]
  for name in _COMMANDS:
    command = [sys.executable, '-m', f'stretchnas_jax.{name}', '--help']
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines += [f'## {name}', '', '```text', text.strip(), '```', '']
  return '\n'.join(lines)


def _write_pages(app) -> None:
  folder = _HERE / 'reference' / 'generated'
  folder.mkdir(exist_ok=True)
  for name, text in (('config', _config_page()), ('commands', _commands_page())):
    (folder / f'{name}.md').write_text(text, 'utf-8')


def _mark_code(app, what, name, obj, options, lines) -> None:
  """Turns the backticks of docstrings into those of reStructuredText."""
  text = re.sub(r'(?<!`)`([^`]+)`(?!`)', r'``\1``', '\n'.join(lines))
  lines[:] = text.split('\n')


def setup(app) -> None:
  """Writes the pages that come from the code, before Sphinx reads any."""
  app.connect('builder-inited', _write_pages)
  app.connect('autodoc-process-docstring', _mark_code, priority=400)
