"""How a run goes along: its epochs and steps, its calls, its checkpoints, its devices."""

import bisect
import itertools
from collections.abc import Iterable
from typing import NamedTuple

from stretchnas_jax.machine import parallel


class Span(NamedTuple):
  """Epochs of one length that follow each other.

  Attributes:
    epochs: how many.
    steps_per_epoch: the steps of each.
  """

  epochs: int
  steps_per_epoch: int


class Epochs:
  """The epochs of a run, whose lengths may differ from phase to phase.

  Attributes:
    ends: for each epoch the number of steps after it.
  """

  def __init__(self, spans: Iterable[Span]) -> None:
    """Lines up the epochs of some spans."""
    lengths = [span.steps_per_epoch for span in spans for _ in range(span.epochs)]
    self.ends = list(itertools.accumulate(lengths))

  def __len__(self) -> int:
    return len(self.ends)

  def every(self, epochs: int) -> list[int]:
    """Returns the number of steps after each so many epochs; none for 0."""
    return self.ends[epochs - 1 :: epochs] if epochs else []

  def done(self, step: int) -> int:
    """Returns the number of whole epochs among the first `step` steps."""
    return bisect.bisect_right(self.ends, step)

  def under_way(self, step: int) -> int:
    """Returns the number, from 1, of the epoch under way, or of the one that has just ended."""
    return min(bisect.bisect_left(self.ends, step) + 1, len(self.ends))

  def place(self, step: int) -> tuple[int, int, int]:
    """Returns the number of the epoch of a step, the steps before it there, and its length."""
    epoch = min(self.done(step), len(self.ends) - 1)
    first = self.ends[epoch - 1] if epoch else 0
    length = self.ends[epoch] - first
    return epoch, (step - first) % length, length


class Settings(NamedTuple):
  """How a run goes along.

  Attributes:
    epochs: of the whole run.
    steps_per_epoch: one pass over the training images; of the first phase, if there are several.
    batch_size: over all devices.
    steps_per_call: steps that run at most before the host looks at the result.
    every_steps: steps between checkpoints; 0 saves after every epoch.
    devices: where the steps run.
    tensorboard: writes event files too.
    spans: the epochs of each phase; empty for a run of one phase.
  """

  epochs: int
  steps_per_epoch: int
  batch_size: int
  steps_per_call: int
  every_steps: int
  devices: parallel.Devices
  tensorboard: bool = False
  spans: tuple[Span, ...] = ()

  @property
  def all_spans(self) -> tuple[Span, ...]:
    """The epochs of each phase."""
    return self.spans or (Span(self.epochs, self.steps_per_epoch),)

  @property
  def places(self) -> Epochs:
    """The epochs one after the other."""
    return Epochs(self.all_spans)

  @property
  def num_steps(self) -> int:
    """Steps of the whole run."""
    return sum(span.epochs * span.steps_per_epoch for span in self.all_spans)

  @property
  def longest_call(self) -> int:
    """Steps that one call runs at most."""
    return min(self.steps_per_call, max(span.steps_per_epoch for span in self.all_spans))
