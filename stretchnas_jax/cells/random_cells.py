"""Cells drawn at random: the baselines of architecture search.

A drawing depends on its arguments alone. Liu et al. (2018) draw several cells and choose one by a
short training; that protocol is the caller's.
"""

from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import numpy as np

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells import graph as graph_lib
from stretchnas_jax.cells import space as space_lib


def random_cell(
  seed: SupportsIndex, space: space_lib.SearchSpace | None = None
) -> genotype_lib.Genotype:
  """Draws a cell of the DARTS space: two different inputs for each node, an operation on each.

  All pairs of inputs are equally probable, and so are all operations other than `none`. Nodes and
  the two types of cell are independent.

  Args:
    seed: a whole number of at least 0.
    space: gives nodes and operations; None for DARTS' space.

  Returns:
    A genotype whose cells concatenate all their nodes.

  Raises:
    ValueError: the seed is negative or not a whole number.

  Example:
    >>> from stretchnas_jax import darts_space
    >>> random_cell(0, darts_space(2)) == random_cell(0, darts_space(2))
    True
  """
  space = space or space_lib.darts_space()
  rng, nodes = _generator(seed), range(2, space.graph.num_nodes)
  cells = []
  for _ in space_lib.CELL_TYPES:
    inputs = [(int(src), dst) for dst in nodes for src in sorted(rng.choice(dst, 2, replace=False))]
    cells += [_with_operations(rng, inputs, space.primitives), nodes]
  return genotype_lib.Genotype(*cells)


def random_operations(
  genotype: genotype_lib.Genotype,
  seed: SupportsIndex,
  primitives: Sequence[str] = space_lib.DARTS_PRIMITIVES,
) -> genotype_lib.Genotype:
  """Draws new operations for the edges of a genotype (paper, Table 1, "random operation").

  All operations other than `none` are equally probable, whatever stood on an edge before.

  Args:
    genotype: gives the edges and the concats.
    seed: a whole number of at least 0.
    primitives: names of operations.

  Returns:
    A genotype with the same edges.

  Raises:
    ValueError: the seed is negative or not a whole number.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> drawn = random_operations(cell, seed=0)
    >>> [edge[1:] for edge in drawn.normal] == [edge[1:] for edge in cell.normal]
    True
  """
  rng = _generator(seed)
  normal, reduce = (
    _with_operations(rng, [(src, dst) for _, src, dst in edges], primitives)
    for edges in (genotype.normal, genotype.reduce)
  )
  return genotype_lib.Genotype(normal, genotype.normal_concat, reduce, genotype.reduce_concat)


def _with_operations(
  rng: np.random.Generator, edges: Sequence[graph_lib.Edge], primitives: Iterable[str]
) -> list[space_lib.CellEdge]:
  """Returns the edges with a drawn operation on each."""
  names = [name for name in primitives if name != 'none']
  drawn = rng.integers(len(names), size=len(edges))
  return [(names[i], src, dst) for i, (src, dst) in zip(drawn, edges)]


def _generator(seed: SupportsIndex) -> np.random.Generator:
  """Returns a generator of random numbers; ValueError if the seed is wrong."""
  if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
    raise ValueError(f'the seed is {seed!r}; it must be a whole number of at least 0')
  return np.random.default_rng(seed)
