"""The one file that names devices: how a step runs on all of them, of one process or of several.

A step is a function `step(*args, axis_name)` that takes means over `axis_name` itself (of the loss
and of the gradients, which is right under every backend); with `axis_name=None` it is a plain
function for one device. Of a batch each process has its share, in the order of the processes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from stretchnas_jax.machine import host_memory, leaves

BACKENDS = ('pmap', 'shard_map', 'single')


def data_parallel(
  step, *, in_axes=(None, 0, None), backend='pmap', axis_name='batch', devices=None, donate=(0,)
):
  """Compiles a step so that a batch is spread over devices and all else is on every device.

  Args:
    step: `step(*args, axis_name)`; all of its outputs are equal on all devices.
    in_axes: for each argument the axis of its leaves that is split, or None.
    backend: 'pmap', 'shard_map' or 'single' (the first device alone).
    axis_name: the name by which the step takes means.
    devices: those of all processes by default.
    donate: the arguments whose memory is reused.

  Returns:
    A `Program`, a function of the same arguments, a batch being this process's share of it. It
    raises ValueError where that does not divide by the number of this process's devices.
  """
  check_backend(backend)
  devices = all_devices(devices)
  if backend == 'single':
    return Program(jax.jit(functools.partial(step, axis_name=None), donate_argnums=donate))
  bound = functools.partial(step, axis_name=axis_name)
  if backend == 'pmap':
    mapped = jax.pmap(
      bound, axis_name, in_axes=in_axes, out_axes=None, donate_argnums=donate, devices=devices
    )
    count = len(local(devices))
    return Program(
      mapped, lambda *args: [split(arg, axis, count) for arg, axis in zip(args, in_axes)]
    )
  specs = tuple(P() if axis is None else P(*[None] * axis, axis_name) for axis in in_axes)
  mesh = mesh_of(devices, axis_name)
  # The step takes its means explicitly; tracking of what varies would refuse its custom gradients.
  mapped = jax.shard_map(bound, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)
  compiled = jax.jit(mapped, donate_argnums=donate)

  def arrange(*args):
    for arg, axis in zip(args, in_axes):
      check_divisible(arg, axis, len(local(devices)))
    if len(local(devices)) < len(devices):
      args = [
        arg if axis is None else join_shares(arg, NamedSharding(mesh, spec))
        for arg, axis, spec in zip(args, in_axes, specs)
      ]
    return args

  return Program(compiled, arrange)


class Memory(NamedTuple):
  """Bytes on each device while a program runs."""

  arguments: int  # and results
  temporary: int  # what the program needs meanwhile: feature maps, gradients

  @property
  def total(self):
    return self.arguments + self.temporary


class Program:
  """A step that runs on all devices, see `data_parallel`."""

  def __init__(self, compiled, arrange=lambda *args: args):
    self._compiled, self._arrange = compiled, arrange

  def __call__(self, *args):
    return self._compiled(*self._arrange(*args))

  def memory(self, *args):
    """The `Memory` of a call with these arguments, as its compiler has it; None if it says nothing.

    Compiles, and does not run; the call itself does not compile once more.
    """
    if not compiler_knows_memory():
      return None
    found = self._compiled.lower(*self._arrange(*args)).compile().memory_analysis()
    host_memory.give_back()  # XLA writes all of the program down for it: 0.26 GB of a training
    if found is None:
      return None
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(held, found.temp_size_in_bytes)


def compiler_knows_memory():
  """Whether it says what a program takes; since JAX 0.11 that of a CPU leaves temporaries out."""
  return jax.default_backend() != 'cpu' or jax.__version_info__ < (0, 11)


def on_gpu():
  return jax.default_backend() == 'gpu'


def check_backend(backend):
  """ValueError unless a backend is known, and can serve all processes of this job."""
  if backend not in BACKENDS:
    raise ValueError(f'parallel.backend is {backend!r}; allowed are {", ".join(BACKENDS)}')
  if backend == 'single' and jax.process_count() > 1:
    raise ValueError(
      f'parallel.backend is single, which is one device; this job has {jax.process_count()} '
      'processes: choose pmap or shard_map'
    )


def process():
  """(number of this process, how many there are)"""
  return jax.process_index(), jax.process_count()


def largest(number):
  """The largest of a whole number over all processes, each of which must ask."""
  return int(multihost_utils.process_allgather(np.int32(number)).max())


def all_devices(devices=None):
  """Devices in the order of their processes, so that each has one piece of a batch."""
  return sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))


def local(devices):
  """Those of this process."""
  return [device for device in devices if device.process_index == jax.process_index()]


def join_shares(tree, sharding):
  """Arrays over all processes, of which each has its share."""
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def mesh_of(devices, axis_name='batch'):
  return Mesh(np.array(devices), (axis_name,))


def check_divisible(tree, axis, count):
  for leaf in jax.tree.leaves(tree) if axis is not None else ():
    if leaf.shape[axis] % count:
      raise ValueError(
        f'a batch of {leaf.shape[axis]} does not divide by {count} devices; choose a multiple'
      )


def split(tree, axis, count):
  """`[..., B, ...] -> [..., count, B / count, ...]` at `axis`."""
  if axis is None:
    return tree
  check_divisible(tree, axis, count)
  cut = lambda x: x.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :])
  return jax.tree.map(cut, tree)


def replicate(tree, backend='pmap', devices=None):
  """Puts a tree on every device, as the compiled steps expect and return it."""
  devices = all_devices(devices)
  if backend == 'single':
    return jax.device_put(tree, devices[0])
  if len(here := local(devices)) < len(devices):
    return replicate_over_processes(tree, here if backend == 'pmap' else devices)
  return jax.device_put(tree, NamedSharding(mesh_of(devices), P()))


def replicate_over_processes(tree, devices):
  """As `replicate`: `pmap` takes what is on this process's devices, `shard_map` what is on all."""
  sharding = NamedSharding(mesh_of(devices), P())

  def put(leaf):
    numbers = leaves.raw(leaf)
    whole = jax.make_array_from_process_local_data(sharding, np.asarray(numbers))
    return leaves.wrap(whole, leaf)

  return jax.tree.map(put, tree)


def fetch(tree):
  """The values of a tree on the host; waits for them."""
  return jax.device_get(tree)


def device_count(backend):
  return 1 if backend == 'single' else jax.device_count()


def positions(batch_size, axis_name):
  """Global positions `[B]` of this device's examples in a batch that is spread over devices."""
  local = jnp.arange(batch_size, dtype=jnp.int32)
  return local if axis_name is None else local + jax.lax.axis_index(axis_name) * batch_size
