"""What the programs of `experiments/` share: runs as data, their commands, results and tables."""

from stretchnas_jax.experiment.program import main
from stretchnas_jax.experiment.spec import Experiment, Paper, Run, Search

__all__ = ['Experiment', 'Paper', 'Run', 'Search', 'main']
