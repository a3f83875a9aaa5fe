"""Counts the work of a compiled program: kernels, copies, and bytes that it moves."""

from collections import Counter
from typing import NamedTuple

from stretchnas_jax.machine import hlo_text
from stretchnas_jax.machine.hlo_text import Instruction, Program

# These instructions name values and start nothing on the device.
_FREE = (
  'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id',
  'replica-id', 'add-dependency', 'opt-barrier', 'domain', 'copy-done', 'async-done',
  'all-reduce-done', 'all-gather-done', 'reduce-scatter-done', 'collective-permute-done',
)  # fmt: skip
_CALLS = ('call', 'async-start')
_COPIES = ('copy', 'copy-start')
# They read only the part of their first operand that they return.
_PARTIAL = ('dynamic-slice', 'slice', 'gather')


class Counts(NamedTuple):
  """The work of one run of a program on one device.

  Attributes:
    kernels: how many kernels start, copies included. Each turn of a loop counts.
    copies: how many of them copy an array.
    num_bytes: bytes read and written in the main memory, a bound from below.
    written: the bytes among them that are written.
    padding: the bytes among these that only fill tiles.
    distinct: kernels in the text of the program; a loop's body counts once.
  """

  kernels: float = 0
  copies: float = 0
  num_bytes: float = 0
  written: float = 0
  padding: float = 0
  distinct: int = 0

  @property
  def padding_share(self) -> float:
    """The part of the written bytes that only fills tiles."""
    return self.padding / self.written if self.written else 0.0


def count(text: str) -> Counts:
  """Returns the counts of a compiled program.

  A conditional counts as the mean of its branches, since the text does not say which it takes.

  Args:
    text: of `as_text()`.

  Raises:
    ValueError: the text is not a program of XLA.
  """
  program = hlo_text.read(text)
  return _of(program, program.entry, {})


def _of(program: Program, name: str, known: dict[str, Counts]) -> Counts:
  """Returns the counts of a computation and of all that it calls."""
  if name not in known:
    known[name] = Counts()  # a computation never calls itself
    body = program.computations.get(name, {})
    parts = [_of_one(program, body, one, known) for one in body.values()]
    known[name] = _sum(parts)
  return known[name]


def _of_one(
  program: Program, body: dict[str, Instruction], one: Instruction, known: dict[str, Counts]
) -> Counts:
  """Returns the counts of one instruction."""
  if one.opcode in _FREE:
    return Counts()
  if one.opcode == 'while':
    parts = [_of(program, name, known) for name in (*one.called, one.condition) if name]
    return _times(_sum(parts), program.trips(one))
  if one.opcode == 'conditional':
    parts = [_of(program, name, known) for name in one.branches]
    return _times(_sum(parts), 1 / max(1, len(parts)))
  if one.opcode in _CALLS:
    return _sum([_of(program, name, known) for name in one.called])
  copies = int(one.opcode in _COPIES)
  read, written, padding = _traffic(program, body, one)
  return Counts(1, copies, read + written, written, padding, 1)


def _sum(parts: list[Counts]) -> Counts:
  return Counts(
    sum(one.kernels for one in parts),
    sum(one.copies for one in parts),
    sum(one.num_bytes for one in parts),
    sum(one.written for one in parts),
    sum(one.padding for one in parts),
    sum(one.distinct for one in parts),
  )


def _times(counts: Counts, factor: float | int) -> Counts:
  return counts._replace(
    kernels=counts.kernels * factor,
    copies=counts.copies * factor,
    num_bytes=counts.num_bytes * factor,
    written=counts.written * factor,
    padding=counts.padding * factor,
  )


def _traffic(
  program: Program, body: dict[str, Instruction], one: Instruction
) -> tuple[int, int, int]:
  """Returns the bytes that a kernel reads and writes at least, and the padding of the latter."""
  operands = [body.get(name) for name in one.operands]
  sizes = [x.num_bytes if x else 0 for x in operands]
  if one.opcode == 'dynamic-update-slice':
    part = operands[1]
    return sum(sizes[1:]), sum(sizes[1:]), part.padding if part else 0
  if one.opcode in _PARTIAL:
    return one.num_bytes, one.num_bytes, one.padding
  if one.opcode != 'fusion' or not one.called:
    return sum(sizes), one.num_bytes, one.padding
  inner = program.computations.get(one.called[0], {})
  reads = (
    size if most is None else min(size, most)
    for size, most in zip(sizes, _reads(inner, len(sizes)))
  )
  result = _written(inner, one)
  return sum(reads), result.num_bytes, result.padding


def _reads(inner: dict[str, Instruction], count: int) -> list[int | None]:
  """Returns for each parameter of a fusion the bytes that it needs of it; None for all."""
  found: list[int | None] = [None] * count
  uses: dict[str, list[Instruction]] = {}
  for one in inner.values():
    for name in set(one.operands):
      uses.setdefault(name, []).append(one)
  for one in inner.values():
    if one.opcode == 'parameter':
      place, users = _place(one, len(found)), uses.get(one.name, [])
      if place is not None and users and all(_is_partial(user, one.name) for user in users):
        found[place] = sum(_part(inner, user) for user in users)
  return found


def _place(parameter: Instruction, count: int) -> int | None:
  """Returns the number of a parameter, which stands where others have their operands."""
  number = parameter.attributes.partition(')')[0]
  return int(number) if number.isdigit() and int(number) < count else None


def _is_partial(user: Instruction, name: str) -> bool:
  """Returns whether an instruction needs only a part of an operand."""
  if user.opcode not in (*_PARTIAL, 'dynamic-update-slice'):
    return False
  return user.operands[0] == name and Counter(user.operands)[name] == 1


def _part(inner: dict[str, Instruction], user: Instruction) -> int:
  """Returns the bytes of the part that an instruction reads; an update in place reads nothing."""
  return 0 if user.opcode == 'dynamic-update-slice' else user.num_bytes


def _written(inner: dict[str, Instruction], fusion: Instruction) -> Instruction:
  """Returns the result of a fusion, or the part that it writes in place."""
  root = next((one for one in inner.values() if one.is_root), None)
  while root is not None and root.opcode == 'bitcast':
    root = inner.get(root.operands[0])
  if root is None or root.opcode != 'dynamic-update-slice':
    return fusion
  return inner.get(root.operands[1], fusion)
