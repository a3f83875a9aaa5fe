"""SNAS (Xie et al. 2019) on CIFAR-10: one draw of a Gumbel softmax for each pass, one level.

Weights and alpha learn from all training images at once; T falls from 1 towards 0.03 over 150
epochs. Each edge keeps its strongest operation, so that a node has any number of inputs. `sc` takes
stretchable cells: without `none`, with the codes of beta decoded.

Published test error: 2.85 +- 0.02 % at 2.8 M parameters (its moderate constraint; the number of
trainings is not given), 1.5 GPU days.

Deviations from the authors' code, SNAS-Series: its validation images are the test images of
CIFAR-10, ours are the training images as they are, since all of them train. It anneals T one epoch
ahead. Alpha has its optimizer for several GPUs, Adam; on one GPU the code takes SGD. An evaluation
uses softmax(alpha); the code draws there too.

The resource penalty takes the logarithms of weights and multiply-adds under softmax(alpha). The
code takes those of the drawn weights at T, and that of memory access. Here pools cost nothing, and
skips at stride 1 neither. In the code pools have FLOPs, and pools and skips have memory access. So
ours pushes to pools and skips as strongly as to `none`.

    python -m stretchnas_jax.search --config=snas_cifar10 --workdir=runs/snas
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search with SNAS, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.data.split = 'one_way'
  config.rule.kind = 'one_level'
  config.relaxation.update({'kind': 'gumbel', 'init_mean': 1.0, 'init_scale': 0.01})
  config.relaxation.update({'final_temperature': 0.03, 'annealing': 'linear_beyond'})
  config.penalty.cost_logarithm, config.model.edge_drop = 1.5e-3, 0.3
  config.search.epochs = 150
  config.weights.schedule_by = 'epoch'
  config.alpha.clip_norm = 10.0
  if cells == 'darts':
    config.space.with_none = True
    config.topology.kind, config.decoding.kind = 'none', 'all_edges'
  else:
    config.beta.update(config.alpha.to_dict())
  return config
