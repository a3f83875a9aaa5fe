"""Values show themselves in notebooks."""

import pytest
from past_runs import write_search

import stretchnas_jax as snas
from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.runs import results
from stretchnas_jax.views import cells


def test_a_genotype_is_a_drawing():
  genotype = snas.zoo.GENOTYPES['DARTS_V2']
  assert genotype._repr_svg_() == cells.svg(genotype)
  assert snas.nas_bench_201.from_code(99)._repr_svg_().startswith('<svg')


def test_a_topology_table_is_a_table():
  graph = snas.CellGraph(3)
  page = snas.topology.output_subsets(graph)._repr_html_()
  assert page.count('<tr>') == 5 and 'none, ' in page
  assert '2 strongest in-edges' in snas.topology.none(graph)._repr_html_()


def test_a_result_is_a_table_with_its_cell():
  genotype = snas.Genotype([('<my op>', 0, 2)], (2,), [('skip_connect', 1, 2)], (2,))
  found = results.Result({'val_accuracy': 0.5, 'seed': 3, 'genotype': genotype.to_dict()})
  page = found._repr_html_()
  assert found.cell == genotype and '0.5000' in page and '</svg>' in page
  assert '<my op>' not in page and '&lt;my op&gt;' in page
  with pytest.raises(ValueError, match='unknown'):
    snas.Genotype.from_dict(found['genotype'])
  many = results.Result({'test_accuracy': 0.5, 'seeds': [0, 1], 'runs': [{'test_accuracy': 0.4}]})
  assert many.cell is None and many._repr_html_().count('<table') == 2


def test_a_history_knows_own_operations_and_is_a_table(tmp_path):
  write_search(tmp_path / 'r', space=SearchSpace(CellGraph(2), ('my_op', 'skip_connect')))
  found = snas.load_history(tmp_path / 'r')
  assert [cell.to_dict() for cell in found.cells] == list(found.genotypes)
  assert any('my_op' in edge for edge in found.cells[-1].normal + found.cells[-1].reduce)
  assert found._repr_html_().count('<tr>') == 4
