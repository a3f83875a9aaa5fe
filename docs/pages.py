"""Pages of the site that are made from the code: fields, commands, the zoo, refused choices."""

import pathlib
import re
import subprocess
import sys

from stretchnas_jax import config as config_lib
from stretchnas_jax import sizes, zoo
from stretchnas_jax.config import defaults
from stretchnas_jax.runs import build, combinations
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.views import cells

_COMMANDS = (
  'search', 'train', 'describe', 'draw', 'report', 'runs', 'compare', 'what_if', 'explain',
  'export', 'import_darts', 'benchmark', 'check_data',
)  # fmt: skip

_RESULTS = pathlib.Path(__file__).parents[1] / 'experiments' / 'results'

# One example for each combination that `runs.combinations` refuses.
REFUSED = (
  {'relaxation.kind': 'gdas', 'rule.kind': 'second_order'},
  {'relaxation.kind': 'sigmoid', 'relaxation.temperature': 0.5},
  {'relaxation.kind': 'sigmoid', 'penalty.logsumexp': 1.0},
  {'relaxation.kind': 'groups', 'penalty.logsumexp': 1.0},
  {'relaxation.kind': 'softmax', 'penalty.kl': 1.0},
  {'relaxation.kind': 'groups', 'topology.kind': 'none'},
  {'data.split': 'one_way', 'rule.kind': 'first_order'},
  {'rule.kind': 'one_level', 'rule.weights_first': True},
  {'decoding.kind': 'all_edges', 'topology.kind': 'output_subsets'},
  {'space.name': 's1', 'space.num_intermediate': 6},
  {'space.name': 's4', 'model.auxiliary_skip': True},
  {'penalty.logsumexp': 1.0, 'penalty.logsumexp_growth': 'exponential'},
  {'model.auxiliary_skip': True, 'model.auxiliary_annealing': 'exponential'},
  {'relaxation.per_layer': True, 'model.num_layers': 2},
  {'rule.kind': 'second_order', 'model.dtype': 'bfloat16'},
  {'search.warmup_epochs': 50, 'search.epochs': 50},
)


def write(folder: pathlib.Path) -> None:
  """Writes all pages.

  Args:
    folder: where they go; it is made if it is absent.
  """
  folder.mkdir(exist_ok=True)
  pages = {
    'config': _config_page(),
    'commands': _commands_page(),
    'refusals': _refusals(),
    'results': _results(),
    'zoo': _zoo_page(folder),
  }
  for name, text in pages.items():
    (folder / f'{name}.md').write_text(text, 'utf-8')


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
  lines = [heads, ['---'] * len(heads), *rows]
  return ['| ' + ' | '.join(cell.replace('|', '\\|') for cell in line) + ' |' for line in lines]


def _config_page() -> str:
  """Returns the page of all fields, from the one place that describes them."""
  lines = ['# Fields of a config', '']
  lines += ['`--config.FIELD=VALUE` after `--config` overrides any of them.', '']
  for kind in ('search', 'train'):
    rows = [
      [f'`{row.field}`', f'`{row.default}`', row.meaning, row.allowed]
      for row in defaults.rows(kind, build.CHOICES)
    ]
    lines += [f'## Fields of `{kind}`', '']
    lines += [*_table(['field', 'default', 'meaning', 'allowed'], rows), '']
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


def refusal(fields: dict[str, object]) -> str:
  """Returns the sentence that refuses a combination.

  Args:
    fields: of a search, by their full names; the others have their defaults.

  Raises:
    ValueError: nothing refuses it.
  """
  config = config_lib.search_config()
  config.update_from_flattened_dict(fields)
  try:
    combinations.check(config, Parts())
  except ValueError as error:
    return str(error).removeprefix('config has ')
  raise ValueError(f'{fields} is not refused')


def _refusals() -> str:
  """Returns a table of the combinations that are refused."""
  rows = []
  for fields in REFUSED:
    names, reason = refusal(fields).split(': ', 1)
    rows.append([names.replace('_', '\\_'), reason.replace('_', '\\_')])
  return '\n'.join(_table(['combination', 'why, and what to take'], rows)) + '\n'


def _results() -> str:
  """Returns the record of all experiments, with paths that hold in the folder of the pages."""
  text = (_RESULTS / 'RESULTS.md').read_text('utf-8')
  text = re.sub(r'\[([^]]*)\]\([^)]*\.md\)', r'\1', text)  # tables that are no pages here
  return re.sub(r'\]\((?!http)', f'](../{_RESULTS.parent.name}/{_RESULTS.name}/', text)


def _zoo_page(folder: pathlib.Path) -> str:
  """Returns the page of published cells, and draws each.

  Args:
    folder: of the page and the drawings.
  """
  rows, drawings = [], []
  network = {'channels': 36, 'num_layers': 20, 'num_classes': 10}
  for name, cell in zoo.GENOTYPES.items():
    about = zoo.PUBLISHED[name]
    size = sizes.measure(cell, **network)
    error = str(about.get('cifar10', {}).get('test_error_percent', '')).replace('+-', ' ± ')
    rows.append([f'`{name}`', f'{size.params / 1e6:.2f}', f'{size.macs / 1e6:.0f}', error])
    (folder / f'{name}.svg').write_text(cells.svg(cell), 'utf-8')
    source = f'From {about["source"].split("@")[0].replace("_", chr(92) + "_")}.'
    drawings += [f'## {name}', '', source, '', f'![The cells of {name}]({name}.svg)', '']
  heads = ['name', 'weights, millions', 'multiply-adds, millions', 'published error, %']
  return '\n'.join(
    [
      '# Published cells',
      '',
      'Give the name wherever a command wants a cell: `--genotype=DARTS_V2`. Sizes are for C 36,',
      '20 layers and 10 classes, without the auxiliary head. Errors are those of the papers, on',
      'CIFAR-10, often at another width.',
      '',
      *_table(heads, rows),
      '',
      *drawings,
    ]
  )
