"""Many runs as one experiment: which runs, where they run, and their results.

This package knows no experiment of its own. The folder `experiments/` beside the package holds
the experiments of the paper. Each of them is a table of runs that `main` turns into a program.
"""

from stretchnas_jax.sweeps.program import main
from stretchnas_jax.sweeps.spec import Experiment, Paper, Run, Search

__all__ = ['Experiment', 'Paper', 'Run', 'Search', 'main']
