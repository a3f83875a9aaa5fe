"""The least time and the memory of a step on a chip, from the counts of its compiled program."""

from typing import NamedTuple

from stretchnas_jax.machine.targets import Chip

_MIB = 2**20


class Work(NamedTuple):
  """The work of one step on one chip.

  Attributes:
    kernels: how many start, copies included.
    copies: how many of them only copy.
    num_bytes: read and written in the main memory.
    flops: multiplications and additions.
    padding: the part of the written bytes that only fills tiles.
  """

  kernels: float
  copies: float
  num_bytes: float
  flops: float
  padding: float = 0.0


class Memory(NamedTuple):
  """The bytes of a program on one chip.

  Attributes:
    arguments: state and data before the step.
    outputs: its results.
    reused: the part of the results that takes the place of arguments (donation).
    temporary: feature maps and gradients.
    code: the program itself.
  """

  arguments: int
  outputs: int
  reused: int
  temporary: int
  code: int

  @property
  def total(self) -> int:
    """The bytes that the chip must have."""
    return self.arguments + self.outputs - self.reused + self.temporary + self.code


class Bound(NamedTuple):
  """The least seconds of a step.

  Attributes:
    seconds: for each limit, 'bandwidth', 'arithmetic' and 'launches'.
  """

  seconds: dict[str, float]

  @property
  def binds(self) -> str:
    """The limit that takes longest."""
    return max(self.seconds, key=lambda name: self.seconds[name])

  @property
  def at_least(self) -> float:
    """The seconds that the step takes at least."""
    return max(self.seconds.values())


def bound(chip: Chip, work: Work, rate: float) -> Bound:
  """Returns the least time of a step: a chip can do everything at once, but not faster.

  The seconds of a kernel's start come from one measurement, see `targets`.

  Args:
    chip: that runs it.
    work: of one chip.
    rate: the most operations a second, see `Chip.rate`.
  """
  return Bound(
    {
      'bandwidth': work.num_bytes / chip.bandwidth,
      'arithmetic': work.flops / rate,
      'launches': work.kernels * chip.seconds_per_kernel,
    }
  )


def usable(chip: Chip) -> int:
  """Returns the bytes of a chip that JAX gives to programs."""
  return int(chip.memory * chip.usable)


def fits(chip: Chip, memory: Memory) -> bool:
  """Returns whether a program has room on a chip.

  Args:
    chip: that runs it.
    memory: of the program.
  """
  return memory.total <= usable(chip)


def largest_batch(chip: Chip, memory: Memory, batch_size: int, chips: int) -> int:
  """Returns about the largest batch that has room, over all chips.

  Temporary memory is taken to grow with the batch; a part that does not grow leaves more room.

  Args:
    chip: that runs it.
    memory: of the program with `batch_size`.
    batch_size: over all chips.
    chips: how many.
  """
  room = usable(chip) - (memory.total - memory.temporary)
  images = max(0, room) * batch_size / max(1, memory.temporary)
  return int(images) // chips * chips


def in_mib(chip: Chip, memory: Memory) -> dict[str, float]:
  """Returns all kinds of memory in MiB, by name, those of the chip too.

  Args:
    chip: that runs it.
    memory: of the program.
  """
  kinds = {**memory._asdict(), 'total': memory.total, 'usable': usable(chip), 'chip': chip.memory}
  return {name: size / _MIB for name, size in kinds.items()}
