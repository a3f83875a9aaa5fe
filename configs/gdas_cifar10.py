"""GDAS (Dong and Yang 2019) on CIFAR-10: each pass computes one sampled operation of each edge.

The weights move first, then alpha, each with a draw of its own; T falls from 10 to 0.1 over 250
epochs. A node keeps the two strongest pairs of edge and operation, which may share an edge. `sc`
takes stretchable cells: without `none`, with the codes of beta decoded.

Published test error: 2.93 % at 3.4 M parameters, one cell. The 2.82 % at 2.5 M of the abstract, in
four hours of one GPU, are of a search with a fixed reduction cell. Users who trained the published
cell report 2.89 +- 0.05 % (AutoDL-Projects, thread 57).

Deviations from the authors' code, AutoDL-Projects: its convolutions have biases before batch norm,
which takes them out again. Its pools have no batch norm; ours do. It never evaluates its supernet;
an evaluation here uses softmax(alpha).

    python -m stretchnas_jax.search --config=gdas_cifar10 --workdir=runs/gdas
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search with GDAS, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.relaxation.update({'kind': 'gdas', 'temperature': 10.0, 'final_temperature': 0.1})
  config.relaxation.annealing = 'linear'
  config.rule.weights_first = True
  config.model.num_layers, config.model.final_norm = 6, True
  config.search.update({'epochs': 250, 'batch_size': 256})
  config.weights.update({'nesterov': True, 'weight_decay': 5e-4})
  if cells == 'darts':
    config.data.split = 'two_way'
    config.space.with_none = True
    config.topology.kind, config.decoding.kind = 'none', 'pairs'
  return config
