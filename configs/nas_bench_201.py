"""A method in the space of NAS-Bench-201 (Dong & Yang 2020), where true accuracies are known.

The argument is the method: `darts_first`, `darts_second`, `milenas`, `pc_darts`, `snas`, `gdas`,
`drnas`, `dots`, `p_darts`, `fair_darts`, `darts_minus`, `beta_darts`, `proxyless` or `darts_plus`;
with `_sc` at its end over stretchable cells, which drop edges by their codes and need no `none`.
`darts_sc` and `milenas_sc` are those of the paper. `gradual_pruning` stands alone, and `random`
ends with a random cell. Five cells a stage and 16 channels, as in the benchmark. With the extra
`nasbench`, `genotypes.jsonl` has the accuracy and the rank of every epoch's cell.

Deviations: a method without stretchable cells keeps the strongest operation of each of the six
edges, `none` included, as NAS-Bench-201 does. PC-DARTS and DOTS choose edges by beta, and there
`none` never wins; PC-DARTS keeps all six, DOTS two in-edges of a node. Fair DARTS keeps the edges
whose gate is at least 0.85, and P-DARTS at most two skips, of up to three in-edges. DrNAS has one
phase with all channels: its phases save memory, and this network is small. In P-DARTS' phases a
stage has 1, 3 and 5 cells, and each drops one operation of each edge. The optimizer of the weights,
the batch and the epochs stay those of DARTS' space. The authors' runs here have a batch of 64 in
GDAS, and 100 epochs in DrNAS and beta-DARTS. Their GDAS adds the weights of operations that were
not sampled as plain numbers, so that their alpha has a gradient without meaning. A later form of
their code drops them, and so do we.

Penalties of costs keep their weights, whose units fit any network. SNAS' adds a logarithm for each
edge, a mean over cells. That of gradual pruning is a multiple of the cost of equal weights. Its
weight grows, and there are 24 gates, in DARTS' space 196. So the last cells of a search are light;
`monitor.cost_floor` ends it sooner. It has no `_sc`: gates and codes would both drop edges, and a
trial ended without a path.

`darts_wo_sc` is left out. Node 2 has one out-edge, so that a pair cannot be chosen there. It would
be a dead end, since only node 3 is the output. Node 1 has one pair, and node 0 alone would choose.

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
  'gradual_pruning': ('gradual_pruning_cifar10', 'all_edges'),
  'drnas': ('drnas_cifar10', 'darts'),
  'dots': ('dots_cifar10', 'dots'),
  'p_darts': ('p_darts_cifar10', 'darts'),
  'fair_darts': ('fair_darts_cifar10', 'darts'),
  'darts_minus': ('darts_minus_cifar10', 'darts'),
  'random': ('darts_cifar10', 'first'),
}
ONLY_SC = ('darts',)
NEVER_SC = ('darts_first', 'darts_second', 'gradual_pruning', 'random')
# Decodings that choose among three in-edges of a node; all others keep the six edges.
_DECODINGS = {
  'pc_darts': 'strongest_edges', 'dots': 'auto', 'fair_darts': 'threshold', 'p_darts': 'capped',
}  # fmt: skip


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
  arguments = ('sc' if has_sc and argument in ('darts', 'dots') else argument,) if argument else ()
  config = files.load_module(files.named()[base]).get_config(*arguments)
  # Gates do not compete, so that a gate of none would have no meaning.
  has_none = not has_sc and name not in ('fair_darts', 'gradual_pruning')
  config.space.update({'name': 'nas_bench_201', 'with_none': has_none})
  # The macro network has a batch norm before its mean of its own.
  config.model.update({'channels': 16, 'num_layers': 5, 'final_norm': False})
  if not has_sc:
    config.decoding.update({'kind': _DECODINGS.get(name, 'all_edges'), 'k': 3})
  _set_phases(config, name)
  return config


def _set_phases(config: ConfigDict, name: str) -> None:
  """Fits the phases of a method to this network, and lets `random` keep its first alpha."""
  if name == 'drnas':
    config.search.update({'phases': (), 'warmup_epochs': 0})
    config.model.partial_channels = 1
  if name == 'p_darts':
    found = [dict(phase) for phase in config.search.phases]
    for fall, (phase, depth) in enumerate(zip(found, (1, 3, 5))):
      phase['model.num_layers'] = depth
      if fall:
        phase['keep'] = 4 + config.space.with_none - fall
    config.search.phases = tuple(found)
  if name == 'random':
    config.search.epochs = 1
    config.relaxation.init_scale = 1.0
    config.alpha.learning_rate = 1e-12
