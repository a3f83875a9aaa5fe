"""Published cells: each loads, is well formed, and survives both written forms."""

import pytest

from stretchnas_jax.cells import genotype, space, zoo
from stretchnas_jax.networks import sizes

EVERY_CELL = pytest.mark.parametrize('name', zoo.GENOTYPES)


def test_names():
  assert len(zoo.GENOTYPES) == 61
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
    if not name.startswith('FairDARTS'):  # its nodes have up to two inputs
      assert fed == [k // 2 + 2 for k in range(len(edges))]
    # A node without out-edges must be part of the output, or it would be computed in vain.
    assert set(fed) - {src for _, src, _ in edges} <= set(concat)


@EVERY_CELL
def test_both_texts(name):
  cell = zoo.GENOTYPES[name]
  assert genotype.from_json(genotype.to_json(cell)) == cell
  assert genotype.read(repr(cell)) == cell
  if not name.startswith('FairDARTS'):
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


# Weights at C = 36 and 20 layers, counted from the definitions of the modules by another program.
WEIGHTS = {
  'SGAS_Cri1_CIFAR_{}': dict(enumerate((
    3_750_238, 3_729_502, 3_795_166, 3_320_614, 3_449_782, 3_465_334, 3_830_374, 3_662_110,
    3_975_094, 3_606_814,
  ), 1)),
  'SGAS_Cri2_CIFAR_{}': dict(enumerate((
    4_143_574, 3_877_030, 4_094_110, 3_909_430, 3_687_166, 3_948_094, 3_690_190, 4_328_254,
    3_734_686, 3_676_150,
  ), 1)),
  'FairDARTS_{}': dict(zip('abcdefg', (
    2_360_782, 3_407_878, 2_598_814, 3_365_542, 2_643_742, 3_151_054, 2_899_054,
  ))),
  'DARTS-_cifar10_s0_{}': dict(enumerate((
    3_454_318, 3_634_246, 3_739_222, 3_437_038, 3_446_110,
  ))),
  'Lambda_DARTS_corr_{}': dict(enumerate((3_320_614, 3_672_910, 3_534_454, 3_604_438))),
  'Lambda_DARTS_sign_{}': dict(enumerate((3_511_990, 3_605_518, 3_755_206, 3_405_286))),
}  # fmt: skip
AUXILIARY_HEAD = 476_426


@pytest.mark.parametrize('names', WEIGHTS)
def test_published_cells_have_the_weights_that_others_count(names):
  for number, expected in WEIGHTS[names].items():
    name = names.format(number)
    found = sizes.count_params(zoo.GENOTYPES[name], channels=36, num_layers=20, num_classes=10)
    assert found == expected, name
    published = zoo.PUBLISHED[name].get('cifar10', {}).get('params_millions')
    if published is not None:
      with_head = 'auxiliary head' in zoo.PUBLISHED[name].get('note', '')
      assert abs(found + with_head * AUXILIARY_HEAD - 1e6 * published) < 1e4, name


def test_parallel_edges_are_kept():
  edges = zoo.GENOTYPES['NASNet-A'].normal
  assert edges.count(('avg_pool_3x3', 0, 5)) == 2


def test_the_zoo_cannot_be_changed_by_accident():
  with pytest.raises(TypeError):
    zoo.GENOTYPES['mine'] = None
