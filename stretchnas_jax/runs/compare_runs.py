"""Several runs side by side: accuracies, cells that agree, and scores that agree."""

import itertools
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.search_result import edges_of
from stretchnas_jax.cells.space import CELL_TYPES, CellEdge
from stretchnas_jax.runs import history, json_files, overview, run_table, statistics
from stretchnas_jax.runs import scores as scores_lib
from stretchnas_jax.runs.overview import Overview
from stretchnas_jax.runs.scores import Scores
from stretchnas_jax.views import cells, tables


class Compared(NamedTuple):
  """One of the runs.

  Attributes:
    facts: of its folder.
    cell: of its result, or of its last epoch; None where there is none.
    scores: of a search, or None.
    differs: the fields of its config in which the runs are not all equal.
  """

  facts: Overview
  cell: AnyGenotype | None
  scores: Scores | None
  differs: dict[str, Any]


class Group(NamedTuple):
  """Runs that differ in their seed alone.

  Attributes:
    path: the folder of its run, or the innermost folder that holds all of its runs.
    differs: the fields that tell this group from the others.
    seeds: of its finished runs.
    unfinished: the number of its other runs, whose accuracies do not count.
    accuracies: see `statistics.Summary`; the interval is Student's t interval of three runs or
      more, and the range of two.
  """

  path: pathlib.Path
  differs: dict[str, Any]
  seeds: tuple[int | None, ...]
  unfinished: int
  accuracies: statistics.Summary


def read(paths: Sequence[pathlib.Path | str], trust: bool = False) -> list[Compared]:
  """Reads runs; a folder of several seeds stands for all of them.

  Args:
    paths: the folders.
    trust: run the programs of own parts, where scores have to be read from a checkpoint.

  Raises:
    ValueError, OSError: a folder holds no run, or there are fewer than two.
  """
  folders = [folder for path in paths for folder in overview.each_of(path)]
  runs = [overview.read(folder) for folder in dict.fromkeys(folders)]
  if len(runs) == 1 and len(folders) > 1:
    raise ValueError(f'{folders[0]} is given more than once; a comparison needs two runs')
  if len(runs) < 2:
    raise ValueError(f'{len(runs)} run is given; a comparison needs at least two')
  differing = run_table.differing(runs)
  return [_compared(run, differs, trust) for run, differs in zip(runs, differing)]


def groups(runs: Sequence[Compared]) -> list[Group]:
  """Returns the runs in groups that differ in their seed alone, with their accuracies.

  Trainings of one group may have different cells, if each has another seed: the cells may come from
  searches with these seeds. Where a seed comes twice, each cell is a group.
  """
  found: list[list[Compared]] = []
  for members in _by(runs, lambda run: [run.facts.kind, run.differs]):
    once = len({run.facts.seed for run in members}) == len(members)
    found += [members] if once else _by(members, lambda run: run.facts.config.get('genotype'))
  return [_group(members) for members in found]


def _by(runs: Sequence[Compared], key: Callable[[Compared], Any]) -> list[list[Compared]]:
  """Returns the runs in lists of equal keys, in the order of their first runs."""
  found: dict[str, list[Compared]] = {}
  for run in runs:
    found.setdefault(json_files.dumps(key(run)), []).append(run)
  return list(found.values())


def _group(members: Sequence[Compared]) -> Group:
  """Returns the group of runs that differ in their seed alone."""
  path = pathlib.Path(os.path.commonpath([run.facts.path for run in members]))
  done = [run.facts for run in members if run.facts.state == 'finished']
  known = statistics.summarize(run.accuracy for run in done if run.accuracy is not None)
  seeds = tuple(run.seed for run in done)
  return Group(path, members[0].differs, seeds, len(members) - len(done), known)


def shared_edges(runs: Sequence[Compared]) -> dict[str, dict[str, list[tuple[CellEdge, int]]]]:
  """Returns the edges `(operation, src, dst)` in all cells and in some, with their counts.

  Args:
    runs: those without a cell do not count.

  Returns:
    For each cell type a dict of 'all' and 'some'; the most frequent edges come first.
  """
  genotypes = [run.cell for run in runs if run.cell is not None]
  found = {}
  for cell in CELL_TYPES:
    each = [set(edges_of(one, cell)) for one in genotypes]
    counts = Counter(edge for edges in each for edge in edges)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0][2], item[0][1], item[0][0]))
    found[cell] = {
      'all': [(edge, n) for edge, n in ranked if n == len(genotypes)],
      'some': [(edge, n) for edge, n in ranked if n < len(genotypes)],
    }
  return found


def correlations(runs: Sequence[Compared]) -> dict[str, dict[str, Any]]:
  """Returns rank correlations between the last scores of each two searches.

  Args:
    runs: searches in the same space count, the others do not.

  Returns:
    For each cell type `edge_scores` and `operations`, the mean over all pairs, and `pairs`, their
    number. None where it is not defined, as without pairs, or where all edges score the same.
  """
  found: dict[str, dict[str, Any]] = {}
  for cell in CELL_TYPES:
    known = [run.scores for run in runs if run.scores and cell in run.scores.cells]
    pairs = [(a, b) for a, b in itertools.combinations(known, 2) if _comparable(a, b)]
    of_edges = [_rank_correlation(a.edge_scores(cell), b.edge_scores(cell)) for a, b in pairs]
    of_operations = [_rank_correlation(a.strength(cell), b.strength(cell)) for a, b in pairs]
    found[cell] = {
      'edge_scores': _mean(of_edges),
      'operations': _mean(of_operations),
      'pairs': len(pairs),
    }
  return found


def _compared(run: Overview, differs: dict[str, Any], trust: bool) -> Compared:
  found = None
  if run.kind != 'train':
    try:
      found = scores_lib.load(run.path, trust)
    except (ValueError, OSError):
      found = None
  fields = run.result.get('genotype') or run.config.get('genotype')
  if not isinstance(fields, dict) and found is not None and found.history.genotypes:
    fields = found.history.genotypes[-1]
  cell = history.known_cell(fields)
  return Compared(run, cell, found if found is not None and found.has_scores else None, differs)


def _comparable(a: Scores, b: Scores) -> bool:
  return a.facts.edges == b.facts.edges and a.facts.primitives == b.facts.primitives


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
  """Returns Spearman's correlation: that of the ranks, where equal values share a rank."""
  first, second = _ranks(a), _ranks(b)
  if np.ptp(first) == 0 or np.ptp(second) == 0:
    return None
  return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
  _, places, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
  ends = np.cumsum(counts)
  return (ends - (counts - 1) / 2)[places]


def _mean(values: Sequence[float | None]) -> float | None:
  known = [value for value in values if value is not None]
  return float(np.mean(known)) if known else None


# ---- for programs, a terminal and a page ---------------------------------------------------------


def to_dict(runs: Sequence[Compared]) -> dict[str, Any]:
  """Returns the comparison as JSON holds it."""
  return {
    'runs': [
      {
        'path': str(run.facts.path),
        'state': run.facts.state,
        'kind': run.facts.kind,
        'seed': run.facts.seed,
        'accuracy': run.facts.accuracy,
        'differs': json_files.plain(run.differs),
        'genotype': None if run.cell is None else run.cell.to_dict(),
      }
      for run in runs
    ],
    'groups': [
      {
        'path': str(g.path),
        'differs': json_files.plain(g.differs),
        'seeds': list(g.seeds),
        'unfinished': g.unfinished,
        **g.accuracies._asdict(),
      }
      for g in groups(runs)
    ],
    'edges': {
      cell: {
        name: [{'edge': list(edge), 'count': n} for edge, n in edges]
        for name, edges in kinds.items()
      }
      for cell, kinds in shared_edges(runs).items()
    },
    'rank_correlation': correlations(runs),
  }


def parts(
  runs: Sequence[Compared], shown: Callable[[dict[str, Any]], str] = run_table.short
) -> list[tuple[str, list[str], list[list[Any]]]]:
  """Returns the tables of a comparison, each with a title, a header and rows.

  Args:
    runs: the runs.
    shown: writes the fields that differ.
  """
  count = sum(run.cell is not None for run in runs)
  found: list[tuple[str, list[str], list[list[Any]]]] = [
    (
      'Runs',
      ['run', 'state', 'seed', 'accuracy', 'fields that differ'],
      [
        [str(r.facts.path), r.facts.state, r.facts.seed, r.facts.accuracy, shown(r.differs) or None]
        for r in runs
      ],
    ),
    (
      'Accuracies',
      ['runs', 'fields that differ', 'unfinished', 'n', 'mean', 'std', '95 % t interval'],
      [
        [str(g.path), shown(g.differs) or None, g.unfinished, g.accuracies.n, g.accuracies.mean]
        + [g.accuracies.std, _interval(g.accuracies)]
        for g in groups(runs)
      ],
    ),
  ]
  for cell, kinds in shared_edges(runs).items():
    if not any(kinds.values()):
      continue  # NAS-Bench-201 has no reduction cell
    rows = [[f'{src}->{dst}', op, f'{n} of {count}'] for edges in kinds.values()
            for (op, src, dst), n in edges]  # fmt: skip
    title = f'{cell.capitalize()} cell: {len(kinds["all"])} of {len(rows)} edges in all runs'
    found.append((title, ['edge', 'operation', 'runs'], rows))
  known = {cell: values for cell, values in correlations(runs).items()
           if any(edges for edges in shared_edges(runs)[cell].values())}  # fmt: skip
  rows = [[cell, *values.values()] for cell, values in known.items()]
  header = ['cell', 'edge scores', 'operation weights', 'pairs of runs']
  return [*found, ('Rank correlation between searches, mean over pairs', header, rows)]


def _interval(found: statistics.Summary) -> str | None:
  """Returns the two ends of an interval; those of two values are called their range."""
  if found.interval is None:
    return None
  ends = f'{found.interval[0]:.4f} to {found.interval[1]:.4f}'
  return ends if found.n > 2 else f'{ends} (range)'


def text(runs: Sequence[Compared]) -> str:
  """Returns the comparison for a terminal."""
  return '\n\n'.join(f'{title}\n{tables.text(head, rows)}' for title, head, rows in parts(runs))


def page(runs: Sequence[Compared]) -> str:
  """Returns the comparison as a page that loads nothing from elsewhere."""
  body = [f'<section><h2>{tables.escaped(title)}</h2>{tables.page(head, rows)}</section>'
          for title, head, rows in parts(runs, _fields)]  # fmt: skip
  for run in runs:
    if run.cell is not None:
      title = tables.escaped(run.facts.path)
      body.append(f'<details><summary>{title}</summary>{cells.svg(run.cell)}</details>')
  return tables.document('Comparison of runs', '\n'.join(body))


def _fields(differs: dict[str, Any]) -> str:
  return ' '.join(f'{name}={value}' for name, value in differs.items())
