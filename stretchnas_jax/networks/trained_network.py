"""The network of a fixed cell that belongs to a genotype."""

from collections.abc import Callable

from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.nas_bench_cells import Cell
from stretchnas_jax.networks.nas_bench_network import NasBenchNetwork
from stretchnas_jax.networks.network import FixedNetwork

TrainedNetwork = FixedNetwork | NasBenchNetwork
"""A linen module of a genotype, to be trained from scratch."""


def network_class(genotype: AnyGenotype) -> Callable[..., TrainedNetwork]:
  """Returns the class of a genotype's network: DARTS' one, or that of NAS-Bench-201."""
  return NasBenchNetwork if isinstance(genotype, Cell) else FixedNetwork
