"""Values show themselves in notebooks."""

import stretchnas_jax as snas
from stretchnas_jax.views import cells


def test_a_genotype_is_a_drawing():
  genotype = snas.zoo.GENOTYPES['DARTS_V2']
  assert genotype._repr_svg_() == cells.svg(genotype)


def test_a_topology_table_is_a_table():
  graph = snas.CellGraph(3)
  page = snas.topology.output_subsets(graph)._repr_html_()
  assert page.count('<tr>') == 5 and 'none, ' in page
  assert '2 strongest in-edges' in snas.topology.none(graph)._repr_html_()
