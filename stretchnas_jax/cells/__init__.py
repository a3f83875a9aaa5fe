"""The definition of a cell: graph, search space, topology tables, relaxations, genotypes."""
