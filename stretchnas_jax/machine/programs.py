"""Compiled programs, and the memory that they take of each device."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jax.extend.core import ClosedJaxpr
from jaxtyping import PyTree

from stretchnas_jax.machine import devices, host_memory


class Memory(NamedTuple):
  """The bytes that a program takes of each device.

  Attributes:
    arguments: for arguments and results.
    temporary: for feature maps and gradients while the program runs.
  """

  arguments: int
  temporary: int

  @property
  def total(self) -> int:
    """The sum of both."""
    return self.arguments + self.temporary


class Program:
  """A step that runs on all devices; `parallel.data_parallel` makes it."""

  def __init__(
    self, compiled: Callable[..., PyTree], arrange: Callable[..., Sequence[PyTree]] | None = None
  ) -> None:
    """Binds a jitted function.

    Args:
      compiled: the function.
      arrange: maps the arguments of a call to those of `compiled`; by default they are the same.
    """
    self._compiled = compiled
    self._arrange = arrange
    self._called = False

  def __call__(self, *args: PyTree) -> PyTree:
    """Runs the step."""
    self._called = True
    return self._compiled(*self._arranged(args))

  @property
  def compiled(self) -> Callable[..., PyTree]:
    """The jitted function."""
    return self._compiled

  @property
  def arrange(self) -> Callable[..., Sequence[PyTree]] | None:
    """The map from the arguments of a call to those of the jitted function; None: the same."""
    return self._arrange

  @property
  def called(self) -> bool:
    """True once the program has been called: it is compiled then."""
    return self._called

  def lower(self, *args: PyTree) -> jax.stages.Lowered:
    """Returns the program of a call, ready to be compiled.

    Args:
      *args: of the call; shapes and types are enough, as `jax.eval_shape` gives them.
    """
    # pyrefly: ignore[missing-attribute]
    return self._compiled.lower(*self._shapes(args))

  def jaxpr(self, *args: PyTree) -> ClosedJaxpr:
    """Returns the traced program of a call.

    Args:
      *args: as for `lower`.
    """
    return jax.make_jaxpr(self._compiled)(*self._shapes(args))

  def _shapes(self, args: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
    """Returns the shapes of the arguments of the compiled function."""
    return jax.eval_shape(lambda *given: tuple(self._arranged(given)), *args)

  def memory(self, *args: PyTree) -> Memory | None:
    """Returns the `Memory` of a call with these arguments; None where the compiler does not know.

    Compiles the program and does not run it. A later call does not compile again.
    """
    if not compiler_knows_memory():
      return None
    # pyrefly: ignore[missing-attribute]
    return memory_of(self._compiled.lower(*self._arranged(args)).compile())

  def _arranged(self, args: tuple[PyTree, ...]) -> Sequence[PyTree]:
    return args if self._arrange is None else self._arrange(*args)


def memory_of(compiled: jax.stages.Compiled) -> Memory | None:
  """Returns the `Memory` of a compiled program; None where the compiler does not know."""
  if not compiler_knows_memory():
    return None
  found = compiled.memory_analysis()
  # For this answer XLA writes the whole program down, which takes memory of the host.
  host_memory.give_back()
  if found is None:
    return None
  held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
  return Memory(held, found.temp_size_in_bytes)


def compiler_knows_memory() -> bool:
  """Returns False where memory figures of the compiler lack temporaries: a CPU since JAX 0.11."""
  return not devices.on_cpu() or jax.__version_info__ < (0, 11)
