"""The search network that belongs to a search space."""

from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.networks.nas_bench_supernet import NasBenchSupernet
from stretchnas_jax.networks.supernet import Supernet

SearchNetwork = Supernet | NasBenchSupernet
"""A linen module that takes operation weights and edge scores as arguments."""


def network_class(space: SearchSpace) -> type[SearchNetwork]:
  """Returns the class of a space's search network: DARTS' one, or that of NAS-Bench-201."""
  return NasBenchSupernet if space.graph.output == 'last' else Supernet
