"""Installs `stretchnas_jax`; `pip install -e .` brings all that a search and a training need."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
  r"__version__ = '([^']+)'", (ROOT / 'stretchnas_jax' / '__init__.py').read_text('utf-8')
).group(1)

REPOSITORY_LINK = re.compile(r'(?<!!)\[([^]]+)\]\((?!https?:)[^)]+\)')
POINTER = re.compile(r' \(\[[^]]+\]\((?!https?:)[^)]+\)\)')  # a link and nothing else, in brackets


def _description() -> str:
  """Returns the first sections of the README, without links and pictures of the repository."""
  text = (ROOT / 'README.md').read_text('utf-8').split('\n## Your own\n')[0]
  lines = [line for line in text.split('\n') if not line.startswith('![')]
  return REPOSITORY_LINK.sub(r'\1', POINTER.sub('', '\n'.join(lines)))


NASBENCH = ['analog-nasbench>=0.1.3']  # only its file is read
ONNX = ['onnx>=1.16', 'onnxruntime>=1.18']

TEST = [
  *NASBENCH,
  'beartype>=0.20',
  'hypothesis>=6.100',
  'matplotlib>=3.9',
  'pytest>=8.4',
  'pytest-xdist>=3.6',
  'tensorboardX>=2.6.2',
]

setup(
  name='stretchnas_jax',
  version=VERSION,
  description='Differentiable architecture search with stretchable cells, in JAX and Flax',
  long_description=_description(),
  long_description_content_type='text/markdown',
  author='The StretchNAS authors',
  keywords=[
    'neural architecture search',
    'differentiable architecture search',
    'DARTS',
    'stretchable cells',
    'AutoML',
    'JAX',
    'Flax',
  ],
  classifiers=[
    'Development Status :: 4 - Beta',
    'Environment :: Console',
    'Intended Audience :: Science/Research',
    'Operating System :: POSIX',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3 :: Only',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Programming Language :: Python :: 3.14',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Typing :: Typed',
  ],
  license='Apache-2.0',
  python_requires='>=3.11',
  # The configs stand at the top of the tree and are shipped inside the package.
  packages=find_packages(include=['stretchnas_jax', 'stretchnas_jax.*'])
  + ['stretchnas_jax.configs'],
  package_dir={'stretchnas_jax.configs': 'configs'},
  package_data={'stretchnas_jax': ['cells/*.json', 'views/report.*', 'py.typed']},
  install_requires=[
    'absl-py>=2.3.1',
    'chex>=0.1.92',
    'flatbuffers>=24.3.6',  # jax.export asks for it
    'filelock>=3.13',  # one process for each run; jax takes it for compiled programs
    'flax>=0.12.8',
    'importlib_resources>=6',  # tensorflow-datasets uses it and does not ask for it
    'jax>=0.10',
    'jaxtyping>=0.3',
    'ml-collections>=1.1',
    'numpy>=2.0',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.12.3,<1',
    'pillow>=11',
    'scikit-learn>=1.5',
    'scipy>=1.14',  # intervals; jax asks for it too
    'tensorflow-datasets>=4.9.9',
    'tqdm>=4.66',
  ],
  extras_require={
    'test': TEST,
    'dev': TEST + ONNX + ['pyrefly>=1.5', 'ruff>=0.12'],
    'tensorboard': ['tensorboardX>=2.6.2'],
    # jobs on a Slurm cluster; charts
    'experiments': ['submitit>=1.5', 'matplotlib>=3.9'],
    'nasbench': NASBENCH,
    # a page looks accuracies up
    'docs': NASBENCH + ['furo>=2024.8', 'latex2mathml>=3.77', 'myst-nb>=1.1', 'sphinx>=7.4'],
    'tf': ['tensorflow-cpu'],
    'onnx': ONNX,
    # to compile for chips that are not here; JAX asks for the libtpu that fits it
    'targets': ['jax[tpu]', 'jax-cuda13-plugin', 'nvidia-cuda-nvcc>=13', 'nvidia-cuda-runtime>=13'],
    'torch': ['torch>=2.6'],  # to check exports for it, and to read its checkpoints
  },
  entry_points={'console_scripts': ['stretchnas = stretchnas_jax.cli.app:main']},
)
