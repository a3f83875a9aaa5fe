"""Gradual pruning under a cost on CIFAR-10, an idea of GOLD-NAS (Bi et al. 2020).

Each operation has a gate, the sigmoid of its alpha, and gates do not compete. Weights and gates
learn from all training images at one level. The expected multiply-adds are a penalty, as a multiple
of those with the weight 1 / O for each of O operations; gates begin at 0.5. After each epoch at
most four operations whose gates are below 0.05 fall for ever, and all below 0.01. If fewer than
four fall, the weight of the penalty grows, by a step that grows too. Each edge keeps its strongest
gate; one without gates has no operation. `sc` takes stretchable cells in place of all edges.

Published test error of GOLD-NAS: 2.53 +- 0.08 % at 3.67 M parameters, 1.1 days; how many trainings
there were is not known. Its code could not be read. All constants here are ours: thresholds, step
and length. GOLD-NAS gives each layer a cell of its own; here layers of a type share their cell.
`--config.monitor.cost_floor=2e7` ends the search at so many multiply-adds.

    python -m stretchnas_jax.search --config=gradual_pruning_cifar10 --workdir=runs/pruned
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'all_edges') -> ConfigDict:
  """Returns the config of a search that prunes, with `sc` over stretchable cells."""
  if cells not in ('all_edges', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be all_edges or sc')
  config = config_lib.search_config()
  config.data.split = 'one_way'
  config.rule.kind = 'one_level'
  config.relaxation.kind = 'sigmoid'
  config.relaxation.init_scale = 0.0
  config.alpha.learning_rate = 6e-3
  config.weights.schedule_by = 'epoch'
  config.penalty.cost = 1.0
  config.monitor.prune = 4
  if cells == 'all_edges':
    config.topology.kind = 'none'
    config.decoding.kind = 'all_edges'
  else:
    config.beta.update(config.alpha.to_dict())
  return config
