"""What the programs of `experiments/` share: runs as data, their commands, results and tables."""

from stretchnas_jax.sweeps.program import main
from stretchnas_jax.sweeps.spec import Experiment, Paper, Run, Search

__all__ = ['Experiment', 'Paper', 'Run', 'Search', 'main']
