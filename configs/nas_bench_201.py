"""A method in the space of NAS-Bench-201 (Dong & Yang 2020), where true accuracies are known.

The argument is the method: `darts_first`, `darts_second`, `milenas`, `pc_darts`, `snas`, `gdas`,
`beta_darts`, `proxyless` or `darts_plus`; with `_sc` at its end over stretchable cells, which drop
edges by their codes and need no `none`. `darts_sc` and `milenas_sc` are those of the paper. Five
cells a stage and 16 channels, as in the benchmark. With the extra `nasbench`, `genotypes.jsonl` has
the accuracy and the rank of every epoch's cell.

Deviations: every method without stretchable cells keeps the strongest operation of each of the six
edges, `none` included, as NAS-Bench-201 does. SNAS has no cost penalty here.

    python -m stretchnas_jax.search --config=nas_bench_201:gdas --workdir=runs/gdas_201
"""

from ml_collections import ConfigDict

from stretchnas_jax.config import files

METHODS = {
  'darts_first': ('darts_cifar10', 'first'),
  'darts_second': ('darts_cifar10', 'second'),
  'milenas': ('milenas_cifar10', None),
  'darts': ('darts_sc_cifar10', None),
  'pc_darts': ('pc_darts_cifar10', 'darts'),
  'snas': ('snas_cifar10', 'darts'),
  'gdas': ('gdas_cifar10', 'darts'),
  'beta_darts': ('beta_darts_cifar10', 'darts'),
  'proxyless': ('proxyless_cifar10', 'darts'),
  'darts_plus': ('darts_plus_cifar10', 'darts'),
}
ONLY_SC, NEVER_SC = ('darts',), ('darts_first', 'darts_second')


def names() -> list[str]:
  """Returns all methods."""
  plain = [name for name in METHODS if name not in ONLY_SC]
  return plain + [f'{name}_sc' for name in METHODS if name not in NEVER_SC]


def get_config(method: str = 'darts_sc') -> ConfigDict:
  """Returns the config of a search in NAS-Bench-201 by one method."""
  if method not in names():
    raise ValueError(f'the method after the colon is {method!r}; it must be {", ".join(names())}')
  name, has_sc = method.removesuffix('_sc'), method.endswith('_sc')
  base, argument = METHODS[name]
  if has_sc and name == 'milenas':
    base, argument = 'milenas_sc_cifar10', '8'
  arguments = ('sc' if has_sc and argument == 'darts' else argument,) if argument else ()
  config = files.load_module(files.named()[base]).get_config(*arguments)
  config.space.update({'name': 'nas_bench_201', 'with_none': not has_sc})
  # The macro network has a batch norm before its mean of its own.
  config.model.update({'channels': 16, 'num_layers': 5, 'final_norm': False})
  config.penalty.cost_logarithm = 0.0
  if not has_sc:
    config.decoding.kind = 'all_edges'
  return config
