"""Searches digits with your own space, operation, topology and relaxation, see `get_parts`."""

import itertools

import flax.linen as nn
import jax
import numpy as np

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import graph as graph_lib
from stretchnas_jax.cells import relaxation, space, topology


class Gate(nn.Module):
  """A 1x1 convolution that opens and closes the channels of its input."""

  channels: int
  stride: int

  @nn.compact
  def __call__(self, x, train=False):
    x = x[:, :: self.stride, :: self.stride]
    return x * nn.sigmoid(nn.Dense(self.channels, use_bias=False, dtype=x.dtype)(nn.relu(x)))


def one_or_two_inputs(graph):
  """Each node chooses one or two of its in-edges."""
  rows = [graph.in_edges(node) for node in range(2, graph.num_nodes)]
  choices = [[c for k in (1, 2) for c in itertools.combinations(row, k)] for row in rows]
  codes = np.zeros((len(rows), max(map(len, choices)), len(graph.edges)), np.float32)
  mask = np.zeros(codes.shape[:2], bool)
  for row, subsets in enumerate(choices):
    for code, edges in enumerate(subsets):
      codes[row, code, list(edges)], mask[row, code] = 1, True
  return topology.TopologyTable(codes, mask, np.ones(len(graph.edges), np.float32), by='target')


def get_parts(config):
  opening = lambda alpha: jax.nn.sigmoid(alpha / config.relaxation.temperature)
  return {
    'space': space.SearchSpace(graph_lib.CellGraph(3), ('skip_connect', 'sep_conv_3x3', 'gate')),
    'operations': {'gate': Gate},
    'topology': one_or_two_inputs,
    'relaxation': relaxation.Relaxation(
      init=relaxation.softmax().init,
      weights=lambda alpha, key, knobs: opening(alpha),
      mean=lambda alpha, knobs: opening(alpha),
      strength=lambda alpha, knobs: np.asarray(opening(alpha)),
    ),
  }


def get_config():
  config = config_lib.search_config()
  config.data.update({'name': 'digits', 'image_size': 8, 'crop_padding': 1, 'flip': False})
  config.model.update({'channels': 4, 'num_layers': 2})
  config.search.update({'epochs': 5, 'batch_size': 32})
  return config
