"""Saves and restores the state of a run.

`store` knows how orbax keeps a checkpoint on disk. `integrity` tells a good checkpoint from a
damaged one, and from that of another run. `recovery` chooses the checkpoint that a run goes on
from. `checkpoints` puts them together.
"""

from stretchnas_jax.runs.checkpoint.checkpoints import Checkpoints, SaveFailed, try_place
from stretchnas_jax.runs.checkpoint.integrity import other_name
from stretchnas_jax.runs.checkpoint.recovery import Unusable

__all__ = ['Checkpoints', 'SaveFailed', 'Unusable', 'other_name', 'try_place']
