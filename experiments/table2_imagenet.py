"""Table 2: cells on ImageNet, transferred from CIFAR-10, published, or found on it. Top-1 error.

python -m experiments.table2_imagenet run --scale=tiny
python -m experiments.table2_imagenet list --scale=paper --imagenet-path=/data/imagenet
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Paper, Run, main
from stretchnas_jax.sweeps.spec import IMAGENET

_SIZE, _LAYERS = 5.3, 14


def _imagenet(
  title: str, cell: str, paper: Paper, layers: int = _LAYERS, size: float = _SIZE
) -> Run:
  return Run(title, cell, layers, size, paper, recipe=IMAGENET)


# Top-1 error, deviation, params in M, FLOPs in M, GPU days, top-5 error.
_OTHERS = {
  'mobilenet': Run('MobileNet', paper=Paper(29.4, None, 4.2, 569, None, 10.5)),
  'shufflenet': Run('ShuffleNetV2 2x', paper=Paper(25.1, None, 5, 591)),
  'mnasnet': Run('MnasNet-92', paper=Paper(25.2, None, 4.4, 388, None, 8.0)),
  'amoebanet': Run('AmoebaNet-C', paper=Paper(24.3, None, 6.4, 570, 3150, 7.6)),
  'snas': Run('SNAS', paper=Paper(27.3, None, 4.3, 522, 1.5, 9.2)),
  'proxyless': Run('ProxylessNAS (ImageNet)', paper=Paper(24.9, None, 7.1, 465, 8.3, 7.5)),
  'p_darts': Run('P-DARTS', paper=Paper(24.4, None, 4.9, 557, 0.3, 7.4)),
  'hm_nas': Run('HM-NAS', paper=Paper(26.6, None, 3.6, 482, 2)),
  'pc_darts_image': Run(
    'PC-DARTS (ImageNet)', paper=Paper(24.2, None, 5.3, 597, 3.8, 7.3)
  ),
  'gold_nas': Run('GOLD-NAS-Z-tr', paper=Paper(23.9, None, 6.4, 590, 1.7, 7.3)),
  'si_vdnas': Run('SI-VDNAS (base)', paper=Paper(25.3, None, 5.0, 577, 0.3, 8.0)),
  'milenas': Run('MiLeNAS', paper=Paper(24.7, None, 5.3, 584, 0.3, 7.6)),
}  # fmt: skip

_OURS = {
  'darts_v2': _imagenet('DARTS (2nd order)', 'DARTS_V2', Paper(26.7, None, 4.7, 574, 4.0, 8.7)),
  'pc_darts': _imagenet(
    'PC-DARTS (CIFAR-10)', 'PC_DARTS_cifar', Paper(25.1, None, 5.3, 586, 0.1, 7.8)
  ),
  'milenas_sc_12': _imagenet(
    'MiLeNAS-SC-L12 (CIFAR-10)', 'milenas_sc_12', Paper(24.2, None, 5.3, 582, 1.5, 7.5)
  ),
  # As many layers as in its search.
  'milenas_sc_8_imagenet': _imagenet(
    'MiLeNAS-SC-L8 (ImageNet)', 'milenas_sc_8_imagenet',
    Paper(23.8, None, 5.6, 612, 6.2, 7.2), layers=8, size=5.6,
  ),
}  # fmt: skip

EXPERIMENT = Experiment(
  title='Table 2: cells on large images',
  searches=SEARCHES,
  runs=_OTHERS | _OURS,
  comparisons=(
    ('milenas_sc_12', 'darts_v2'),
    ('milenas_sc_12', 'pc_darts'),
    ('milenas_sc_8_imagenet', 'milenas_sc_12'),
  ),
  remarks=(
    'Top-1 error; the top-5 error beside it is measured where there are more than ten classes.',
    'MiLeNAS-SC-L8 (ImageNet) is searched on 224 x 224 pixels and trained with 8 layers; the paper '
    'names neither the size of the images nor the layers of its network.',
    'At the scales small and tiny, CIFAR-10 of 64 x 64 or digits of 32 x 32 pixels stand in for '
    'ImageNet, with its stem, in search and training.',
  ),
)

if __name__ == '__main__':
  main(EXPERIMENT)
