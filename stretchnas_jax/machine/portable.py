"""Programs that compile once and run on any one device of this process.

JAX compiles a program for each device on which it is called. All devices of a process are alike, so
the compiled code of the first device also serves the others: it is serialised, and loaded for them.
"""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable

import jax
import numpy as np
from jax._src import compiler  # the options with which a compiled program is loaded
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree

from stretchnas_jax.machine import program_cache
from stretchnas_jax.machine.programs import Memory, Program, memory_of


class PortableProgram(Program):
  """A step that runs on the device of its arguments; threads may call it at the same time."""

  def __init__(self, make: Callable[[jax.Device], Program], home: jax.Device) -> None:
    """Binds a function that makes the program of a device.

    Args:
      make: gives a program that compiles when it is called.
      home: the device for which the program is compiled.
    """
    first = make(home)
    super().__init__(first.compiled, first.arrange)
    self._make, self._home = make, home
    self._source: jax.stages.Compiled | None = None
    self._by_device: dict[jax.Device, Callable[..., PyTree]] = {}
    self._lock = threading.Lock()

  def __call__(self, *args: PyTree) -> PyTree:
    """Runs the step on the device of its arguments."""
    self._called = True
    return self._on(_device_of(args), args)(*self._arranged(args))

  def memory(self, *args: PyTree) -> Memory | None:
    """Returns the `Memory` of a call with these arguments; None where the compiler does not know.

    Args:
      *args: of the call.
    """
    with self._lock:
      return memory_of(self._compiled_once(args))

  def _on(self, device: jax.Device, args: tuple[PyTree, ...]) -> Callable[..., PyTree]:
    """Returns the compiled program of a device; the first call compiles it."""
    if (known := self._by_device.get(device)) is not None:
      return known
    with self._lock:
      source = self._compiled_once(args)
      found = source if device == self._home else self._elsewhere(source, device)
      return self._by_device.setdefault(device, found)

  def _compiled_once(self, args: tuple[PyTree, ...]) -> jax.stages.Compiled:
    if self._source is None:
      with _as_it_can_be_serialised(self._home):
        self._source = self.lower(*args).compile()
    return self._source

  def _elsewhere(self, source: jax.stages.Compiled, device: jax.Device) -> Callable[..., PyTree]:
    try:
      return load_on(source, device)
    except Exception as error:  # a runtime that cannot serialise programs
      logging.warning('a program is compiled once more, for %s: %s', device, error)
      return self._make(device).compiled


def _as_it_can_be_serialised(device: jax.Device) -> contextlib.AbstractContextManager:
  """Returns a context for the compilation of a program that is to be serialised.

  A program of a CPU that came from JAX's cache lacks functions when it is serialised once more. A
  CPU is several devices only where these are simulated.

  Args:
    device: of the program.
  """
  return program_cache.set_aside() if device.platform == 'cpu' else contextlib.nullcontext()


def _device_of(args: tuple[PyTree, ...]) -> jax.Device:
  """Returns the device that holds the arguments of a call."""
  for arg in args:
    for leaf in jax.tree.leaves(arg):
      if isinstance(leaf, jax.Array):
        return next(iter(leaf.devices()))
  raise ValueError('no argument of this program is on a device')


def load_on(compiled: jax.stages.Compiled, device: jax.Device) -> jax.stages.Compiled:
  """Returns a compiled program of one device for another device; nothing is compiled.

  Args:
    compiled: for one device.
    device: of the same kind.

  Raises:
    Exception: the runtime cannot do so, or private parts of JAX have moved.
  """
  # pyrefly: ignore[missing-attribute]
  before, client = compiled._executable._unloaded_executable, device.client
  place = SingleDeviceSharding(device)
  devices = place._internal_device_list
  options = compiler.get_compile_options(
    num_replicas=1, num_partitions=1, device_assignment=np.array([[device.id]]), backend=client
  )
  data = client.serialize_executable(before.xla_executable)
  loaded = client.deserialize_executable(data, devices, options)
  if loaded.local_devices() != [device]:
    raise ValueError(f'the program was not loaded for {device}')
  found = dataclasses.replace(
    before,
    xla_executable=loaded,
    device_list=devices,
    input_shardings=[place] * len(before.input_shardings),
    output_shardings=[place] * len(before.output_shardings),
  )
  info = compiled.args_info, compiled.out_tree
  return jax.stages.Compiled(found.load(), [], *info, no_kwargs=compiled._no_kwargs)
