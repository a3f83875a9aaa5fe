"""DARTS on the space S4 of Zela et al. (2020) and CIFAR-10: noise or separable convolution.

Each edge has a 3x3 separable convolution and noise, which is harmful: it ignores its input. The
argument is the order of the gradients, `first` or `second`; `sc` takes stretchable cells. Every
other method runs on this space with `--config.space.name=s4`.

Published test error: no figure of the paper could be checked.

Deviations from the authors' code, RobustDARTS: those of our DARTS, see docs/differences.md. A cell
that keeps noise is decoded and drawn by its search. Every other command refuses it in one sentence,
since no network with noise is trained here. The paper has second order, and the weight decay 3e-4
here is the first of those it compares.

    python -m stretchnas_jax.search --config=s4:second --workdir=runs/s4
"""

from ml_collections import ConfigDict

from stretchnas_jax import config as config_lib

RULES = {'first': 'first_order', 'second': 'second_order', 'sc': 'first_order'}


def get_config(order: str = 'first') -> ConfigDict:
  """Returns the config of a search on S4 with DARTS, with `sc` over stretchable cells."""
  if order not in RULES:
    raise ValueError(f'the order after the colon is {order!r}; it must be {", ".join(RULES)}')
  config = config_lib.search_config()
  config.space.name = 's4'
  config.rule.kind = RULES[order]
  config.weights.schedule_by = 'epoch'
  if order != 'sc':
    config.data.split = 'two_way'
    config.topology.kind = 'none'
  return config
