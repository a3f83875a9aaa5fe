"""Builds the documentation: `sphinx-build -W docs docs/_build`."""

import pathlib
import re
import sys

import stretchnas_jax

_HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(_HERE))

import pages  # noqa: E402 beside this file

project = 'StretchNAS'
author = copyright = 'The StretchNAS authors'
release = version = stretchnas_jax.__version__
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build', 'reference/generated/refusals.md']
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


def _write_pages(app) -> None:
  pages.write(_HERE / 'reference' / 'generated')


def _mark_code(app, what, name, obj, options, lines) -> None:
  """Turns the backticks of docstrings into those of reStructuredText."""
  text = re.sub(r'(?<!`)`([^`]+)`(?!`)', r'``\1``', '\n'.join(lines))
  lines[:] = text.split('\n')


def setup(app) -> None:
  """Writes the pages that come from the code, before Sphinx reads any."""
  app.connect('builder-inited', _write_pages)
  app.connect('autodoc-process-docstring', _mark_code, priority=400)
