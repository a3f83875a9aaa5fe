"""The results of an experiment as a Markdown page."""

from stretchnas_jax.sweeps.collect import CLOSE
from stretchnas_jax.sweeps.spec import MEASURES

HEAD = (
  'run', 'paper', 'ours', '95 % interval', 'n', 'best (not the result)', 'paper: params, M',
  'ours: params, M', 'paper: FLOPs, M', 'ours: FLOPs, M', 'ours: MACs, M',
  'paper: search, GPU days', 'ours: search, h',
)  # fmt: skip
TOP5 = ('paper: top-5 error, %', 'ours: top-5 error, %')
SEARCH_HEAD = (
  'search', 'layers', 'n', 'depth of the normal cell', 'its edges', 'validation accuracy',
  'r(beta) is 0 from epoch', 'weight of none at the end: mean, largest',
)  # fmt: skip
NOTE = (
  'Ours: mean ± standard deviation (n - 1) over seeds, each a search and a training of its own. '
  'Intervals are of the mean, by bootstrap; of three seeds they go from the lowest to the highest, '
  'and are too narrow for their name. FLOPs as papers on cells count them.'
)


def markdown(results):
  """The page of what `collect.collect` gives; top-5 errors where the paper prints some."""
  rows = results['rows']
  top5 = any(row['paper']['top5'] is not None for row in rows.values())
  parts = [
    f'# {results["title"]}',
    f'{MEASURES[results["measure"]]}. Scale: {results["scale"]}. {results["date"][:10]}.',
    table(
      *filled(HEAD + TOP5 * top5, [cells(row) + top5_cells(row) * top5 for row in rows.values()])
    ),
    NOTE,
  ]
  if results['comparisons']:
    head = ('on the same seeds', 'difference', '95 % interval', 'n')
    parts.append(table(head, [comparison(rows, found) for found in results['comparisons']]))
  if results['searches']:
    lines = [search(*row) for row in results['searches'].items()]
    parts.append(table(*filled(SEARCH_HEAD, lines)))
  parts += [f'- {remark}' for remark in results['remarks']]
  parts += [made(facts) for facts in results['made_with']]
  return '\n\n'.join(parts) + '\n'


def search(name, row):
  """The texts of one search, whose seeds stand beside one another."""
  runs = row['runs']
  each = lambda texts: ', '.join(texts)
  zero = lambda run: 'never' if run['zero_from'] is None else str(run['zero_from'])
  topology = any(any(run['history']['penalty']) for run in runs)
  last = lambda run, name: f'{run["history"][name][-1]:.2f}'
  none = 'none_weight_mean' in runs[0]['history']
  weights = (f'{last(r, "none_weight_mean")}, {last(r, "none_weight_max")}' for r in runs)
  return [
    name,
    f'{row["layers"]}',
    f'{len(runs)}',
    each(f'{run["depth"]}' for run in runs),
    each(f'{run["edges"]}' for run in runs),
    each(f'{run["val_accuracy"]:.3f}' for run in runs),
    f'{each(map(zero, runs))} of {row["epochs"]}' if topology else '-',
    '; '.join(weights) if none else '-',
  ]


def filled(head, lines):
  """Without the columns in which no line says anything."""
  kept = [i for i in range(len(head)) if any(line[i] != '-' for line in lines)]
  return [head[i] for i in kept], [[line[i] for i in kept] for line in lines]


def table(head, lines):
  texts = [head, ['---'] * len(head), *lines]
  return '\n'.join(f'| {" | ".join(line)} |' for line in texts)


def cells(row):
  """The texts of one row."""
  paper, none = row['paper'], {'of others': '-', 'not run': 'not run'}.get(row['status'])
  seeds = f'{row["n"]}' if row['status'] in ('run', 'of others') else row['status']
  best = row['best'] and f'{row["best"]["value"]:.2f} (seed {row["best"]["seed"]})'
  return [
    row['title'],
    spread(paper['error'], paper['std']),
    none or spread(row['mean'], row['std']),
    between(row['interval']),
    '-' if row['status'] == 'of others' else seeds,
    best or '-',
    number(paper['params']),
    params(row),
    number(paper['flops'], 0),
    number(millions(row['flops_ptflops'])),
    number(millions(row['macs'])),
    number(paper['days']),
    number(row['search_hours']),
  ]


def top5_cells(row):
  ours = row['top5']
  return [spread(row['paper']['top5'], None), spread(ours['mean'], ours['std'])]


def params(row):
  """Millions, and how far they are from what was wanted where that is far."""
  off = row['params_off']
  far = f' (up to {100 * off:.0f} % off)' if off is not None and off > CLOSE else ''
  return number(millions(row['params']), 3) + far


def comparison(rows, found):
  names = ' minus '.join(rows[found[side]]['title'] for side in ('first', 'second'))
  mean = 'not run' if found['mean'] is None else f'{found["mean"]:+.2f}'
  return [names, mean, between(found['interval']), f'{found["n"]}']


def millions(value):
  return None if value is None else value / 1e6


def number(value, digits=2):
  """At most so many decimals; small numbers keep two figures."""
  if value is None:
    return '-'
  return f'{value:.2g}' if 0 < abs(value) < 0.1 else f'{value:.{digits}f}'


def spread(mean, std):
  if mean is None:
    return '-'
  return f'{mean:.2f}' + ('' if std is None else f' ± {std:.2f}')


def between(interval):
  return '-' if interval is None else f'{interval[0]:.2f} .. {interval[1]:.2f}'


def made(facts):
  """One line on what runs were made with."""
  machine = facts['machine'] or {}
  words = [f'{machine.get("cpu")}, {machine.get("cores")} cores', *sorted(set(facts['devices']))]
  words += [f'{name} {version}' for name, version in facts['versions'].items() if version]
  return f'{"; ".join(words)}; commit {facts["git_commit"]}.'
