"""Searches digits with a relaxation and a penalty of your own: a new method in one file.

The relaxation is the sparsemax (Martins and Astudillo 2016), the nearest point of the simplex: weak
operations have the weight 0. The penalty is the entropy of the weights, growing from 0.

    python -m stretchnas_jax.search --config=own_method --workdir=runs/own_method
"""

import jax.numpy as jnp
import numpy as np

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import relaxation

GROWTH = 1e-3  # of the factor of the entropy, at each step


def sparsemax(alpha):
  ranked = -jnp.sort(-alpha, -1)
  count = jnp.arange(1, alpha.shape[-1] + 1)
  excess = jnp.cumsum(ranked, -1) - 1
  kept = (count * ranked > excess).sum(-1, keepdims=True)
  tau = jnp.take_along_axis(excess, kept - 1, -1) / kept
  return jnp.maximum(alpha - tau, 0)


def entropy(arch, op_weights, edge_scores, knobs):
  return knobs['entropy'] * sum(relaxation.entropy(w) for w in op_weights.values())


def get_parts(config):
  return {
    'relaxation': relaxation.Relaxation(
      init=relaxation.normal_init(1e-3),
      weights=lambda alpha, key, knobs: sparsemax(alpha),
      mean=lambda alpha, knobs: sparsemax(alpha),
      strength=lambda alpha, knobs: np.asarray(sparsemax(alpha)),
    ),
    'penalties': (entropy,),
    'knobs': lambda step: {'entropy': GROWTH * step},
  }


def get_config():
  config = config_lib.search_config()
  config.data.update({'name': 'digits', 'image_size': 8, 'crop_padding': 1, 'flip': False})
  config.model.update({'channels': 4, 'num_layers': 2})
  return config
