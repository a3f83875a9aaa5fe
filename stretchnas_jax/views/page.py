"""One HTML page that loads nothing: its parts, and the document around them.

All texts are escaped here or in `tables`. A strict Content-Security-Policy allows the page's own
style and script by their digests, and nothing else but images inside the page.
"""

import base64
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from stretchnas_jax.views.tables import escaped

_MOST_LETTERS = 14  # of a value on a card
_LONG = ' class="long"'

_HERE = pathlib.Path(__file__).parent


class Section(NamedTuple):
  """A part of a page under a heading of its own.

  Attributes:
    title: the heading.
    parts: pieces of HTML, from the functions here and in the neighbouring files.
  """

  title: str
  parts: Sequence[str]


def document(title: str, lead: str, sections: Iterable[Section], data: Any = None) -> str:
  """Returns a whole page.

  Args:
    title: of the page.
    lead: a sentence below the title.
    sections: its parts; one without content is left out.
    data: for the script, plain values that JSON holds; None for none.
  """
  style, script = _file('report.css'), _file('report.js')
  shown = [section for section in sections if any(section.parts)]
  links = ''.join(f'<li><a href="#{_id(s.title)}">{escaped(s.title)}</a></li>' for s in shown)
  policy = (
    f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
    f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
  )
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    f'<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n'
    '<a class="jump" href="#main">Skip to the content</a>\n'
    f'<header><h1><bdi>{escaped(title)}</bdi></h1>\n<p class="lead">{escaped(lead)}</p></header>\n'
    f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main id="main">\n'
    + '\n'.join(map(_section, shown))
    + f'\n</main>\n<script type="application/json" id="page-data">{_json(data)}</script>\n'
    f'<script>{script}</script>\n</body>\n</html>\n'
  )


def _section(section: Section) -> str:
  name = _id(section.title)
  body = '\n'.join(filter(None, section.parts))
  return (
    f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escaped(section.title)}</h2>\n{body}\n'
    '</section>'
  )


# ---- the pieces of a section ---------------------------------------------------------------------


def paragraph(text: str, kind: str = '') -> str:
  """Returns a paragraph.

  Args:
    text: plain text.
    kind: 'good', 'note' or 'warning'; '' for none.
  """
  return f'<p class="{kind}">{escaped(text)}</p>' if kind else f'<p>{escaped(text)}</p>'


def heading(text: str) -> str:
  """Returns a heading inside a section."""
  return f'<h3>{escaped(text)}</h3>'


def items(texts: Iterable[str]) -> str:
  """Returns a list of plain texts; '' for none."""
  found = ''.join(f'<li>{escaped(text)}</li>' for text in texts)
  return f'<ul>{found}</ul>' if found else ''


def cards(pairs: Iterable[tuple[str, str]]) -> str:
  """Returns names with large values, for the figures that matter most; long values take two."""
  found = ''.join(
    f'<div{_LONG if len(value) > _MOST_LETTERS else ""}><dt>{escaped(name)}</dt>'
    f'<dd><bdi>{escaped(value)}</bdi></dd></div>'
    for name, value in pairs
  )
  return f'<dl class="cards">{found}</dl>'


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
  """Returns names with values, a line each; a value None is left out."""
  found = ''.join(
    f'<dt>{escaped(name)}</dt><dd><bdi>{escaped(value)}</bdi></dd>'
    for name, value in pairs
    if value is not None
  )
  return f'<dl class="facts">{found}</dl>' if found else ''


def command(text: str) -> str:
  """Returns a command that a reader may copy."""
  return f'<pre tabindex="0"><code>{escaped(text)}</code></pre>'


def scrolled(content: str, label: str) -> str:
  """Returns a piece that scrolls sideways where it is wider than the page.

  Args:
    content: HTML.
    label: its name, for readers of the screen.
  """
  return (
    f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(label)}">{content}</div>'
  )


def figure(svg: str, caption: str, scrolls: bool = False) -> str:
  """Returns a drawing with a line below it.

  Args:
    svg: the drawing.
    caption: the line.
    scrolls: whether it keeps its width on a narrow page.
  """
  inside = scrolled(svg, caption) if scrolls else svg
  return f'<figure>{inside}<figcaption>{escaped(caption)}</figcaption></figure>'


def grid(pieces: Iterable[str]) -> str:
  """Returns pieces side by side where there is room."""
  return f'<div class="grid">{"".join(pieces)}</div>'


def folded(summary: str, content: str) -> str:
  """Returns a piece that opens when a reader asks for it; it is open in print.

  Args:
    summary: its name.
    content: HTML.
  """
  return f'<details><summary>{escaped(summary)}</summary>{content}</details>'


def image(png: bytes, alt: str, caption: str) -> str:
  """Returns an image inside the page.

  Args:
    png: the content of a PNG file.
    alt: the words in its place.
    caption: a line below it.
  """
  data = base64.b64encode(png).decode()
  return (
    f'<figure class="photo"><img src="data:image/png;base64,{data}" alt="{escaped(alt)}">'
    f'<figcaption>{escaped(caption)}</figcaption></figure>'
  )


def slider(count: int, last: int) -> str:
  """Returns the slider over epochs, which the script shows.

  Args:
    count: how many epochs are known.
    last: the number of the last one, which the page shows at first.
  """
  places = f'min="0" max="{count - 1}" value="{count - 1}"'
  return (
    '<div class="slider" id="slider" hidden><label for="epoch">Epoch '
    f'<output id="number" for="epoch">{last}</output></label>'
    f'<input type="range" id="epoch" {places} aria-valuetext="epoch {last}"></div>'
    '<p id="line" class="line" aria-live="polite"></p>'
  )


def _file(name: str) -> str:
  return (_HERE / name).read_text('utf-8')


def _digest(text: str) -> str:
  return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Any) -> str:
  """Returns JSON that no reader of HTML takes for markup."""
  text = json.dumps(data, separators=(',', ':'))
  for character in '<>&\u2028\u2029':
    text = text.replace(character, f'\\u{ord(character):04x}')
  return text


def _id(title: str) -> str:
  return 'part-' + re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')
