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
    distinct: kernels in the text of the program; a loop's body counts once.
  """

  kernels: float = 0
  copies: float = 0
  num_bytes: float = 0
  distinct: int = 0


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
  return Counts(1, copies, _bytes_of(program, body, one), 1)


def _sum(parts: list[Counts]) -> Counts:
  return Counts(
    sum(one.kernels for one in parts),
    sum(one.copies for one in parts),
    sum(one.num_bytes for one in parts),
    sum(one.distinct for one in parts),
  )


def _times(counts: Counts, factor: float | int) -> Counts:
  return counts._replace(
    kernels=counts.kernels * factor,
    copies=counts.copies * factor,
    num_bytes=counts.num_bytes * factor,
  )


def _bytes_of(program: Program, body: dict[str, Instruction], one: Instruction) -> int:
  """Returns the bytes that a kernel reads and writes at least."""
  sizes = [body[name].num_bytes if name in body else 0 for name in one.operands]
  if one.opcode == 'dynamic-update-slice':
    return 2 * sum(sizes[1:])
  if one.opcode in _PARTIAL:
    return 2 * one.num_bytes
  if one.opcode != 'fusion' or not one.called:
    return sum(sizes) + one.num_bytes
  inner = program.computations.get(one.called[0], {})
  reads = (
    size if most is None else min(size, most)
    for size, most in zip(sizes, _reads(inner, len(sizes)))
  )
  return sum(reads) + _written(inner, one.num_bytes)


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


def _written(inner: dict[str, Instruction], result: int) -> int:
  """Returns the bytes that a fusion writes; an update in place writes only its part."""
  root = next((one for one in inner.values() if one.is_root), None)
  while root is not None and root.opcode == 'bitcast':
    root = inner.get(root.operands[0])
  if root is None or root.opcode != 'dynamic-update-slice' or root.operands[1] not in inner:
    return result
  return inner[root.operands[1]].num_bytes
