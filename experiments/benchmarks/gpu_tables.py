"""What a GPU has said, as tables."""

import re

from experiments.benchmarks import tables

# Dense products, FLOP/s, of the SXM modules by NVIDIA's data sheets.
PEAKS = {'float32': 67e12, 'tf32': 495e12, 'bfloat16': 989e12}
STEPS = ('what', 'how', 'step, s', 'images/s', 'MFU', 'trace + compile, s', 'peak MB')
RUNS = ('run', 'epochs', 'hours, start to end', 'images/s', 'accuracy')


def peak_of(device, arithmetic):
  """FLOP/s at most; None of another chip, be it a CPU or a slower module of the same name."""
  known = re.search(r'\bH[12]00\b', device or '') and not re.search(r'PCIe|NVL', device)
  return PEAKS[arithmetic] if known else None


def utilisation(flops, seconds, peak):
  """The part of the peak that the arithmetic of the published function comes to, or None."""
  return flops / seconds / peak if flops and peak else None


def counts(text):
  """What pytest's last line says: `{'passed': 3, 'failed': 1}`."""
  found = re.findall(r'(\d+) (passed|failed|errors?|skipped|deselected|warnings?)', text)
  counted = {re.sub('error$', 'errors', name): int(number) for number, name in found}
  return {'passed': 0, 'failed': 0, 'errors': 0} | counted


def one_line(entry):
  """What came out, in a few words."""
  if 'error' in entry:
    return f'failed: {last_line(entry["error"])}'
  if 'compiled' in entry:
    return compile_line(entry['compiled'])
  if 'flops_per_step' in entry:
    return f'{entry["flops_per_step"] / 1e12:.4g} TFLOP a step'
  if 'median_step_seconds' in entry:
    return f'{entry["median_step_seconds"]:.4g} s a step'
  if 'epochs' in entry:
    state = 'done' if entry['done'] else 'stopped'
    return f'{state} after {entry["epochs"]} epochs, {entry["seconds"]:.0f} s'
  return f'{entry["passed"]} passed, {entry["failed"] + entry["errors"]} failed'


def compile_line(found):
  """What first calls beside each other have taken."""
  said = lambda e: (
    f'failed, {last_line(e["error"])}' if 'error' in e
    else f'{e["trace_seconds"]:.0f} + {e["compile_seconds"]:.0f} s'
  )  # fmt: skip
  return '; '.join(f'{name} {said(entry)}' for name, entry in found.items())


def last_line(text):
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1][:160].replace('|', '/') if lines else 'it said nothing'


def step_cells(row, side, entries, flops):
  """One line: a side of a row, from what its rounds have said."""
  found = [entry for entry in entries if 'error' not in entry]
  if not found:
    return [row.title, side.title, f'failed: {last_line(entries[0]["error"])}', *[''] * 4]
  step = tables.spread([entry['median_step_seconds'] for entry in found])
  device = found[0].get('device' if side.ours else 'gpu')
  part = utilisation(flops, step['median'], peak_of(device, side.arithmetic))
  rate = tables.spread([entry['images_per_second'] for entry in found])['median']
  # Later rounds have the first one's compiled programs.
  cold = [e for e in found if side.ours and not e['compiled_from_cache']]
  waiting = ' + '.join(f'{cold[0][f"{what}_seconds"]:.0f}' for what in ('trace', 'compile') if cold)
  return [
    row.title, side.title, tables.seconds(step), f'{rate:.0f}', f'{part:.1%}' if part else '-',
    waiting or '-', f'{max(entry["peak_memory_mb"] for entry in found):.0f}',
  ]  # fmt: skip


def step_lines(entries, rows, sides):
  """The lines of all sides that have been measured, `[texts]`; `entries` by 'row/side/round'."""
  lines = []
  for name, row in rows.items():
    flops = entries.get(f'{name}/flops', {}).get('flops_per_step')
    for key, side in sides.items():
      mine = [e for unit, e in entries.items() if unit.startswith(f'{name}/{key}/')]
      if mine:
        lines.append(step_cells(row, side, mine, flops))
  return lines


def run_cells(name, entry):
  """One line: a whole search or training, or how far it has come."""
  last, result = entry.get('last') or {}, entry.get('result', {})
  if 'error' in entry:
    return [name, f'failed: {last_line(entry["error"])}', '', '', '']
  scores = {k: result.get(k, last.get(k)) for k in ('val_accuracy', 'test_accuracy')}
  shown = ', '.join(f'{k.split("_")[0]} {v:.2%}' for k, v in scores.items() if v is not None)
  rate = f'{last["images_per_second"]:.0f}' if 'images_per_second' in last else '-'
  epochs = f'{entry["epochs"]}{"" if entry["done"] else ", not done"}'
  return [name, epochs, f'{entry["seconds"] / 3600:.3f}', rate, shown or '-']


def table(head, lines):
  line = lambda texts: f'| {" | ".join(texts)} |'
  return [line(head), line(['---'] * len(head)), *map(line, lines), '']


def about(call):
  machine, versions = call['machine'], call['versions']
  hardware = [machine['gpu'], machine['cpu'], f'{machine["cores"]} cores']
  numbers = (f'{name} {number}' for name, number in versions.items() if number)
  return (
    f'{", ".join(filter(None, hardware))}; {", ".join(numbers)}; {call["date"][:10]}, '
    f'commit {call["git_commit"]}.'
  )


def markdown(found, rows, sides):
  """All that is known: `{stage: {'calls': [facts], 'entries': {name: dict}}}`."""
  entries = {stage: content['entries'] for stage, content in found.items()}
  calls = [about(call) for content in found.values() for call in content['calls']]
  text = [line + '\n' for line in dict.fromkeys(calls)]
  if tests := entries['tests']:
    lines = [f'{name}: {one_line(entry)}' for name, entry in tests.items()]
    text += ['Tests on the device: ' + '; '.join(lines) + '.', '']
  for entry in entries['compile'].values():
    text += [f'Tracing + compilation, beside each other: {one_line(entry)}.', '']
  if lines := step_lines(entries['steps'], rows, sides):
    text += table(STEPS, lines)
    text += [
      'MFU: multiply-adds of the published function that a step needs, twice, by its time, of the '
      "peak of the side's arithmetic. Peak MB: of the device, or of the process on a CPU.",
      '',
    ]
  if runs := entries['searches'] | entries['retrain']:
    text += table(RUNS, [run_cells(name, entry) for name, entry in runs.items()])
  return '\n'.join(text)
