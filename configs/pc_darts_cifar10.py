"""PC-DARTS (Xu et al. 2020) on CIFAR-10: operations see a quarter of the channels.

The rest pass each edge by, times its edge score: a softmax over the in-edges of a node. Alpha and
beta rest for 15 epochs. A node keeps the two in-edges whose product of score and operation weight
is largest. `sc` takes stretchable cells: without `none`, with the merged scores of Eq. 13 and
the codes of beta decoded.

Published test errors: 2.57 +- 0.07 % at 3.6 M parameters (the number of trainings is not given),
0.1 days on a GTX 1080 Ti. Users
report 97.06 to 97.3 % instead of 97.43 % (PC-DARTS, thread 7), and larger cells (thread 26).

Deviations from the authors' code: they validate at the end of the last epoch only. One Adam moves
alpha and beta there; ours are two, with the same numbers, which is the same.

    python -m stretchnas_jax.search --config=pc_darts_cifar10:sc --workdir=runs/pc_darts_sc
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search with PC-DARTS, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.model.partial_channels = 4
  config.search.batch_size = 256
  # 15 epochs, or the same share of a shorter search.
  config.search.warmup_epochs = config.search.get_oneway_ref('epochs') * 3 // 10
  config.weights.update({'learning_rate': 0.1, 'final_learning_rate': 0.0, 'schedule_by': 'epoch'})
  config.alpha.learning_rate = config.beta.learning_rate = 6e-4
  if cells == 'darts':
    config.data.split = 'two_way'
    config.space.with_none = True
    config.topology.update({'kind': 'k_subsets', 'k': 1, 'by': 'target'})
    config.decoding.kind = 'strongest_edges'
  return config
