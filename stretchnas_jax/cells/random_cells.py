"""Cells drawn at random: the baselines of architecture search.

A drawing depends on its arguments alone. The protocol around it, several drawings of which a short
training chooses one, is Liu et al.'s (2018).
"""

import numpy as np

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells import space as space_lib


def random_cell(seed, space=None):
  """A cell of the DARTS space: two different inputs for each node, an operation on each.

  All pairs of inputs are equally probable, and so are all operations other than `none`; nodes and
  the two types of cell are independent.

  Args:
    seed: a whole number of at least 0.
    space: a `SearchSpace`, DARTS' by default.

  Returns:
    A `Genotype` whose cells concatenate all their nodes.
  """
  space = space or space_lib.darts_space()
  rng, nodes = _generator(seed), range(2, space.graph.num_nodes)
  cells = []
  for _ in ('normal', 'reduce'):
    inputs = [(src, dst) for dst in nodes for src in sorted(rng.choice(dst, 2, replace=False))]
    cells += [_with_operations(rng, inputs, space.primitives), nodes]
  return genotype_lib.Genotype(*cells)


def random_operations(genotype, seed, primitives=space_lib.DARTS_PRIMITIVES):
  """A genotype's edges with operations drawn anew (paper, Table 1, "random operation").

  All operations other than `none` are equally probable, whatever stood on an edge before.

  Args:
    genotype: gives the edges and the concats.
    seed: a whole number of at least 0.
    primitives: names of operations.

  Returns:
    A `Genotype`.
  """
  rng = _generator(seed)
  normal, reduce = (
    _with_operations(rng, [edge[1:] for edge in edges], primitives)
    for edges in (genotype.normal, genotype.reduce)
  )
  return genotype_lib.Genotype(normal, genotype.normal_concat, reduce, genotype.reduce_concat)


def _with_operations(rng, edges, primitives):
  names = [name for name in primitives if name != 'none']
  return [
    (names[i], src, dst) for i, (src, dst) in zip(rng.integers(len(names), size=len(edges)), edges)
  ]


def _generator(seed):
  if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
    raise ValueError(f'the seed is {seed!r}; it must be a whole number of at least 0')
  return np.random.default_rng(seed)
