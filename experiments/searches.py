"""The paper's searches, each under the name by which the experiments call it.

Experiments that use the same search share its runs.
"""

from stretchnas_jax.sweeps import Search
from stretchnas_jax.sweeps.spec import IMAGENET_SEARCH

_DARTS, _PAIRS = 'configs/darts_cifar10.py', 'configs/darts_wo_sc_cifar10.py'
_SC, _MILENAS_SC = 'configs/darts_sc_cifar10.py', 'configs/milenas_sc_cifar10.py'

SEARCHES = {
  'darts_first': Search(f'{_DARTS}:first', 8),
  'darts_second': Search(f'{_DARTS}:second', 8),
  'darts_second_output': Search(f'{_DARTS}:second_output', 8),
  'milenas': Search('configs/milenas_cifar10.py', 8),
  # DARTS w/o SC: pairs of out-edges (Eq. 7-10), and of in-edges (Eq. 3-6).
  'wo_sc': Search(_PAIRS, 8),
  'wo_sc_input': Search(_PAIRS, 8, {'topology.kind': 'input_pairs'}),
  # Stretchable cells (Eq. 11-13): four intermediate nodes, and six.
  'darts_sc': Search(_SC, 8),
  'milenas_sc_8': Search(f'{_MILENAS_SC}:8', 8),
  'milenas_sc_12': Search(f'{_MILENAS_SC}:12', 12),
  'milenas_sc_16': Search(f'{_MILENAS_SC}:16', 16),
  'milenas_sc_20': Search(f'{_MILENAS_SC}:16', 20),
}

# Table 2: 3 % of ImageNet itself, four intermediate nodes.
SEARCHES |= {'milenas_sc_8_imagenet': Search(IMAGENET_SEARCH, 8)}

# Table 3: DARTS with as many layers in search as in evaluation; "7 nodes" are four intermediate
# ones, "9 nodes" six. Eight layers with four are `darts_second`.
SEARCHES |= {
  f'darts_second_{layers}_layers': Search(f'{_DARTS}:second', layers) for layers in (12, 16, 20)
}
SEARCHES |= {
  f'darts_second_9_nodes_{layers}_layers': Search(
    f'{_DARTS}:second', layers, {'space.num_intermediate': 6}
  )
  for layers in (8, 12, 16, 20)
}

# Figure 5: a fixed number of inputs of each node.
SEARCHES |= {
  f'darts_second_{k}_inputs': Search(f'{_DARTS}:second', 8, {'topology.k': k}) for k in (1, 3)
}
SEARCHES |= {
  f'darts_sc_{k}_inputs': Search(
    _SC, 8, {'topology.kind': 'k_subsets', 'topology.by': 'target', 'topology.k': k}
  )
  for k in (1, 2, 3)
}
