"""The figures of a GPU as tables."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.benchmarks import tables

if TYPE_CHECKING:  # `gpu_stages` imports this file
  from experiments.benchmarks.compare import Row
  from experiments.benchmarks.gpu_stages import Side

# Dense products, FLOP/s, of the SXM modules, from NVIDIA's data sheets.
_PEAKS = {'float32': 67e12, 'tf32': 495e12, 'bfloat16': 989e12}
_STEP_HEAD = ('what', 'how', 'step, s', 'images/s', 'MFU', 'trace + compile, s', 'peak MB')
_RUN_HEAD = ('run', 'epochs', 'hours, start to end', 'images/s', 'accuracy')

_Entry = Mapping[str, Any]  # the result of one unit of work; 'error' where it failed


def peak_of(device: str | None, arithmetic: str) -> float | None:
  """Returns the peak of a chip in FLOP/s.

  Args:
    device: the name of the chip.
    arithmetic: a key of the peaks: 'float32', 'tf32' or 'bfloat16'.

  Returns:
    None for any other chip, including slower modules of the same name.
  """
  is_known = re.search(r'\bH[12]00\b', device or '') and not re.search(r'PCIe|NVL', device)
  return _PEAKS[arithmetic] if is_known else None


def utilisation(flops: float | None, seconds: float, peak: float | None) -> float | None:
  """Returns the part of the peak that a step reaches, or None where it is unknown.

  Args:
    flops: the arithmetic of a step, by the published function.
    seconds: the time of a step.
    peak: FLOP/s.
  """
  return flops / seconds / peak if flops and peak else None


def test_counts(text: str) -> dict[str, int]:
  """Returns the counts in the last line of pytest, for example `{'passed': 3, 'failed': 1}`."""
  found = re.findall(r'(\d+) (passed|failed|errors?|skipped|deselected|warnings?)', text)
  counted = {re.sub('error$', 'errors', name): int(number) for number, name in found}
  return {'passed': 0, 'failed': 0, 'errors': 0} | counted


def one_line(entry: _Entry) -> str:
  """Returns the result of a unit of work in a few words."""
  if 'error' in entry:
    return f'failed: {last_line(entry["error"])}'
  if 'compiled' in entry:
    return '; '.join(f'{name} {_compilation(e)}' for name, e in entry['compiled'].items())
  if 'flops_per_step' in entry:
    return f'{entry["flops_per_step"] / 1e12:.4g} TFLOP a step'
  if 'median_step_seconds' in entry:
    return f'{entry["median_step_seconds"]:.4g} s a step'
  if 'epochs' in entry:
    state = 'done' if entry['done'] else 'stopped'
    return f'{state} after {entry["epochs"]} epochs, {entry["seconds"]:.0f} s'
  return f'{entry["passed"]} passed, {entry["failed"] + entry["errors"]} failed'


def last_line(text: str) -> str:
  """Returns the last line of a message, so short that a table can hold it."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1][:160].replace('|', '/') if lines else 'it said nothing'


def markdown(
  found: Mapping[str, Mapping[str, Any]], rows: Mapping[str, 'Row'], sides: Mapping[str, 'Side']
) -> str:
  """Returns the page of all that is known.

  Args:
    found: for each stage its `calls`, with their facts, and its `entries` by name.
    rows: the rows of the table of steps.
    sides: the sides of each row.
  """
  entries = {stage: content['entries'] for stage, content in found.items()}
  calls = [_about(call) for content in found.values() for call in content['calls']]
  text = [line + '\n' for line in dict.fromkeys(calls)]
  if entries['tests']:
    lines = [f'{name}: {one_line(entry)}' for name, entry in entries['tests'].items()]
    text += ['Tests on the device: ' + '; '.join(lines) + '.', '']
  for entry in entries['compile'].values():
    text += [f'Tracing + compilation, beside each other: {one_line(entry)}.', '']
  lines = _step_lines(entries['steps'], rows, sides)
  if lines:
    text += _table(_STEP_HEAD, lines)
    text += [
      'MFU: multiply-adds of the published function that a step needs, twice, by its time, of the '
      "peak of the side's arithmetic. Peak MB: of the device, or of the process on a CPU.",
      '',
    ]
  runs = entries['searches'] | entries['retrain']
  if runs:
    text += _table(_RUN_HEAD, [_run_texts(name, entry) for name, entry in runs.items()])
  return '\n'.join(text)


def _compilation(entry: _Entry) -> str:
  """Returns the seconds of tracing and of compilation, or the reason of a failure."""
  if 'error' in entry:
    return f'failed, {last_line(entry["error"])}'
  return f'{entry["trace_seconds"]:.0f} + {entry["compile_seconds"]:.0f} s'


def _step_lines(
  entries: Mapping[str, _Entry], rows: Mapping[str, 'Row'], sides: Mapping[str, 'Side']
) -> list[list[str]]:
  """Returns the lines of all sides that have been measured; `entries` by 'row/side/round'."""
  lines = []
  for name, row in rows.items():
    flops = entries.get(f'{name}/flops', {}).get('flops_per_step')
    for key, side in sides.items():
      prefix = f'{name}/{key}/'
      rounds = [entry for unit, entry in entries.items() if unit.startswith(prefix)]
      if rounds:
        lines.append(_step_texts(row, side, rounds, flops))
  return lines


def _step_texts(
  row: 'Row', side: 'Side', entries: Sequence[_Entry], flops: float | None
) -> list[str]:
  """Returns one line: a side of a row, from the figures of its rounds."""
  found = [entry for entry in entries if 'error' not in entry]
  if not found:
    return [row.title, side.title, f'failed: {last_line(entries[0]["error"])}', *[''] * 4]
  step = tables.range_of([entry['median_step_seconds'] for entry in found])
  device = found[0].get('device' if side.ours else 'gpu')
  part = utilisation(flops, step['median'], peak_of(device, side.arithmetic))
  rate = tables.range_of([entry['images_per_second'] for entry in found])['median']
  return [
    row.title,
    side.title,
    tables.seconds_text(step),
    f'{rate:.0f}',
    f'{part:.1%}' if part else '-',
    _first_start(found) if side.ours else '-',
    f'{max(entry["peak_memory_mb"] for entry in found):.0f}',
  ]


def _first_start(entries: Iterable[_Entry]) -> str:
  """Returns tracing and compilation of a round that found no compiled program."""
  for entry in entries:
    if not entry['compiled_from_cache']:
      return f'{entry["trace_seconds"]:.0f} + {entry["compile_seconds"]:.0f}'
  return '-'


def _run_texts(name: str, entry: _Entry) -> list[str]:
  """Returns one line: a whole search or training, or its state."""
  if 'error' in entry:
    return [name, f'failed: {last_line(entry["error"])}', '', '', '']
  last, result = entry.get('last') or {}, entry.get('result', {})
  scores = []
  for part in ('val', 'test'):
    accuracy = result.get(f'{part}_accuracy', last.get(f'{part}_accuracy'))
    if accuracy is not None:
      scores.append(f'{part} {accuracy:.2%}')
  rate = f'{last["images_per_second"]:.0f}' if 'images_per_second' in last else '-'
  epochs = f'{entry["epochs"]}{"" if entry["done"] else ", not done"}'
  return [name, epochs, f'{entry["seconds"] / 3600:.3f}', rate, ', '.join(scores) or '-']


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
  """Returns the lines of a Markdown table, and an empty one."""
  rows = [head, ['---'] * len(head), *lines]
  return [*map(tables.table_line, rows), '']


def _about(call: Mapping[str, Any]) -> str:
  """Returns a line with the machine, the versions, the date and the commit of a call."""
  machine, versions = call['machine'], call['versions']
  hardware = [machine['gpu'], machine['cpu'], f'{machine["cores"]} cores']
  numbers = (f'{name} {number}' for name, number in versions.items() if number)
  return (
    f'{", ".join(filter(None, hardware))}; {", ".join(numbers)}; {call["date"][:10]}, '
    f'commit {call["git_commit"]}.'
  )
