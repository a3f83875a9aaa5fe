"""Builds the documentation: `sphinx-build -W docs docs/_build`."""

import os
import pathlib
import re
import sys

from docutils import nodes
from latex2mathml import converter

import stretchnas_jax

_HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(_HERE))

import pages  # noqa: E402 beside this file

project = 'StretchNAS'
author = copyright = 'The StretchNAS authors'
release = version = stretchnas_jax.__version__
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = [
  '_build', 'reference/generated/refusals.md', 'reference/generated/results.md',
]  # fmt: skip
html_theme = 'furo'
html_title = f'StretchNAS {version}'
html_math_renderer = 'mathml'

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
# Pages run each of their programs once or twice, so that quick compilation counts most.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
viewcode_follow_imported_members = False  # else fields lead to a page of builtins
autodoc_typehints = 'signature'
autodoc_member_order = 'bysource'
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_attr_annotations = False


def _write_pages(app) -> None:
  pages.write(_HERE / 'reference' / 'generated')


def _inline_formula(translator, node) -> None:
  """Writes a formula as MathML, which browsers show without a script from elsewhere."""
  translator.body.append(converter.convert(node.astext()))
  raise nodes.SkipNode


def _formula_of_its_own(translator, node) -> None:
  text = converter.convert(node.astext(), display='block')
  translator.body.append(f'<div class="math" style="padding: 0.5em 0">{text}</div>')
  raise nodes.SkipNode


def _mark_code(app, what, name, obj, options, lines) -> None:
  """Turns the backticks of docstrings into those of reStructuredText."""
  text = re.sub(r'(?<!`)`([^`]+)`(?!`)', r'``\1``', '\n'.join(lines))
  lines[:] = text.split('\n')


def setup(app) -> None:
  """Writes the pages that come from the code, before Sphinx reads any."""
  app.add_html_math_renderer(
    html_math_renderer, inline_renderers=(_inline_formula, None),
    block_renderers=(_formula_of_its_own, None),
  )  # fmt: skip
  app.connect('builder-inited', _write_pages)
  app.connect('autodoc-process-docstring', _mark_code, priority=400)
