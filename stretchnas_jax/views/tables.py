"""Tables for a terminal and for a page."""

import html
import unicodedata
from collections.abc import Sequence
from typing import Any

from stretchnas_jax.machine import output

_LONGEST = 60  # characters of one entry on a terminal


def text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Returns a table as lines; numbers stand on the right, and None is a dash.

  Args:
    header: the name of each column.
    rows: the entries.
  """
  cells = [[_shown(value) for value in row] for row in rows]
  table = [[name.replace('_', ' ') for name in header], *cells]
  widths = [max(_width(row[i]) for row in table) for i in range(len(header))]
  right = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(header))]
  return '\n'.join(
    '  '.join(
      _padded(cell, width, is_right) for cell, width, is_right in zip(row, widths, right)
    ).rstrip()
    for row in table
  )


def page(header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = '') -> str:
  """Returns a table as HTML, in which no entry is markup.

  Args:
    header: the name of each column.
    rows: the entries.
    caption: a line above the table.
  """
  head = ''.join(f'<th scope="col">{escaped(name.replace("_", " "))}</th>' for name in header)
  body = '\n'.join(f'<tr>{"".join(map(_cell, row))}</tr>' for row in rows)
  above = f'<caption>{escaped(caption)}</caption>' if caption else ''
  return f'<table>{above}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'


def escaped(value: Any) -> str:
  """Returns a text as HTML shows it: markup and control characters become plain characters."""
  return html.escape(output.printable(str(value), 10_000))


def number(value: int | float, digits: int = 4) -> str:
  """Returns a number of a table; whole numbers have commas.

  Args:
    value: the number.
    digits: after the point, of a number that is not whole.
  """
  return f'{value:,}' if isinstance(value, int) else f'{value:.{digits}f}'


def _cell(value: Any) -> str:
  kind = ' class="number"' if isinstance(value, int | float) else ''
  return f'<td{kind}>{escaped(_shown(value, 10_000))}</td>'


def _shown(value: Any, longest: int = _LONGEST) -> str:
  if value is None:
    return '-'
  if isinstance(value, int | float) and not isinstance(value, bool):
    return number(value)
  return output.printable(str(value), longest)


def _width(text: str) -> int:
  """Returns the columns that a text takes on a terminal; wide characters take two."""
  return sum(
    0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in 'WF' else 1
    for c in text
  )


def _padded(text: str, width: int, right: bool) -> str:
  space = ' ' * (width - _width(text))
  return space + text if right else text + space


_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:1rem auto;max-width:60rem;padding:0 1rem}
section{overflow-x:auto}
table{border-collapse:collapse}
th,td{border-bottom:1px solid #8888;padding:.2rem .6rem;text-align:left;vertical-align:top}
td.number{text-align:right;font-variant-numeric:tabular-nums}
summary{overflow-wrap:anywhere}
svg{max-width:100%;height:auto}
@media print{details{display:block}}
"""


def document(title: str, body: str) -> str:
  """Returns a page that loads nothing from elsewhere and runs no program.

  Args:
    title: of the page, as plain text.
    body: HTML.
  """
  policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    f'<title>{escaped(title)}</title><style>{_STYLE}</style></head>\n'
    f'<body><h1>{escaped(title)}</h1>\n{body}\n</body></html>\n'
  )
