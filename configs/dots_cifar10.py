"""DOTS (Gu et al. 2021) on CIFAR-10: operations first, then the topology.

In the first phase the operations without weights compete, and so do the convolutions: two groups.
The winner of each group stays. Then new weights train for 20 epochs. In the last phase weights,
alpha and beta learn from all images at one level: a balance chooses between the two winners, and
beta a pair of in-edges for each node. The temperature falls from 10 to 0.02. `sc` takes stretchable
cells, without `none`, in place of pairs of in-edges.

The errors of its paper could not be read, so none stands here; the abstract of its first version
gives 0.2 GPU days. Deviations from the authors' code: images are shuffled in the last phase. Beta
begins at 1e-3 times a normal draw, theirs at 0. In the last phase all images train, so that
validation is on training images. Cells of the first phase mean little, as groups do not compete. A
search takes twice the images of the first phases in each epoch of the last one.

    python -m stretchnas_jax.search --config=dots_cifar10 --workdir=runs/dots
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib

_NEW = ('weights', 'alpha', 'beta')


def get_config(cells: str = 'dots') -> ConfigDict:
  """Returns the config of a search in three phases, with `sc` over stretchable cells."""
  if cells not in ('dots', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be dots or sc')
  config = config_lib.search_config()
  config.search.epochs = 70
  config.data.split = 'two_way'
  config.space.with_none = cells == 'dots'
  config.model.final_norm = True
  config.weights.schedule_by = 'epoch'
  config.topology.kind = 'none'
  config.relaxation.update({'kind': 'groups', 'init_scale': 0.0})
  topology = {
    'topology.kind': 'input_pairs' if cells == 'dots' else 'output_subsets',
    'topology.annealed': True, 'relaxation.balance': True, 'alpha.b1': 0.9, 'beta.b1': 0.9,
  }  # fmt: skip
  annealed = {
    'data.split': 'one_way', 'rule.kind': 'one_level', 'relaxation.temperature': 10.0,
    'relaxation.final_temperature': 0.02, 'relaxation.annealing': 'exponential',
  }  # fmt: skip
  config.search.phases = (
    {'epochs': 30, 'search.warmup_epochs': 15},
    {'epochs': 20, 'search.warmup_epochs': 20, 'keep': 'groups', 'new': _NEW, **topology},
    {'epochs': 20, **topology, **annealed},
  )
  return config
