"""Published cells: each loads, is well formed, and survives both written forms."""

import pytest

from stretchnas_jax.cells import genotype, space, zoo

EVERY_CELL = pytest.mark.parametrize('name', zoo.GENOTYPES)


def test_names():
  assert len(zoo.GENOTYPES) == 21
  assert set(zoo.GENOTYPES) == set(zoo.PUBLISHED)
  assert {'NASNet-A', 'DARTS_V2', 'PC_DARTS_cifar', 'MiLeNAS_3.87M'} <= set(zoo.GENOTYPES)
  assert not [name for name in zoo.GENOTYPES if '(' in name or ' ' in name]


@EVERY_CELL
def test_cell(name):
  cell = zoo.GENOTYPES[name]
  assert isinstance(cell, genotype.Genotype)
  assert {op for op, _, _ in cell.normal + cell.reduce} <= set(space.OPERATIONS)
  for edges, concat in ((cell.normal, cell.normal_concat), (cell.reduce, cell.reduce_concat)):
    fed = [dst for _, _, dst in edges]
    assert fed == [k // 2 + 2 for k in range(len(edges))]
    # A node without out-edges must be part of the output, or it would be computed in vain.
    assert set(fed) - {src for _, src, _ in edges} <= set(concat)


@EVERY_CELL
def test_both_texts(name):
  cell = zoo.GENOTYPES[name]
  assert genotype.from_json(genotype.to_json(cell)) == cell
  assert genotype.from_darts_text(genotype.to_darts_text(cell)) == cell


@EVERY_CELL
def test_published_figures(name):
  published = zoo.PUBLISHED[name]
  assert published['source']
  for dataset in {'cifar10', 'imagenet'} & set(published):
    figures = dict(published[dataset])
    assert figures.pop('source')
    assert figures


def test_darts_v2_as_printed():
  text = """Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=[2, 3, 4, 5])"""
  assert genotype.from_darts_text(text) == zoo.GENOTYPES['DARTS_V2']
  assert zoo.PUBLISHED['DARTS_V2']['cifar10']['params_millions'] == 3.3


def test_parallel_edges_are_kept():
  edges = zoo.GENOTYPES['NASNet-A'].normal
  assert edges.count(('avg_pool_3x3', 0, 5)) == 2


def test_the_zoo_cannot_be_changed_by_accident():
  with pytest.raises(TypeError):
    zoo.GENOTYPES['mine'] = None
