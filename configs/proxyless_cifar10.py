"""ProxylessNAS' binary gates (Cai et al. 2019) on DARTS' space and CIFAR-10.

Each pass draws one operation of each edge by its probability. The weights move first. In every
fifth step alpha follows, with a draw of its own and the gradients of all probabilities, straight
through. It rests in the first quarter of the epochs, while sampled paths train. `sc` takes
stretchable cells: without `none`, with the codes of beta.

Published test error: none for this space; the paper has another space and another network.

Deviations from the authors' code: the space is that of DARTS, and so are the optimizer and the
learning rate of the weights. Every operation of an edge gives alpha a gradient; the code also has a
form with two paths, which saves memory. Warm-up and search share one cosine. In the code alpha also
rests in the first epoch after the warm-up, and on edges whose draw is `none`; here it moves. An
evaluation uses softmax(alpha); the code evaluates the path of the largest logits.

An expected cost joins with penalty.cost, as a share of the cost without any preference. Its like in
the code is a linear form, relative to the target of a device, with 0.1 in the authors' script. The
code's default form is a product with a logarithm, whose factor is 0.2.

    python -m stretchnas_jax.search --config=proxyless_cifar10 --workdir=runs/proxyless
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib


def get_config(cells: str = 'darts') -> ConfigDict:
  """Returns the config of a search with binary gates, with `sc` over stretchable cells."""
  if cells not in ('darts', 'sc'):
    raise ValueError(f'the cells after the colon are {cells!r}; they must be darts or sc')
  config = config_lib.search_config()
  config.relaxation.update({'kind': 'straight_through', 'noise': False})
  config.rule.weights_first = True
  config.search.update({'epochs': 160, 'arch_every': 5})
  # 40 epochs, or the same share of a shorter search.
  config.search.warmup_epochs = config.search.get_oneway_ref('epochs') // 4
  config.alpha.update({'learning_rate': 1e-3, 'b1': 0.0, 'weight_decay': 0.0})
  if cells == 'darts':
    config.data.split = 'two_way'
    config.space.with_none = True
    config.topology.kind = 'none'
  else:
    config.beta.update(config.alpha.to_dict())
  return config
