"""Runs a step on all devices, of one process or of several.

A step is a function `step(*args, axis_name)`. It takes means of the loss and of the gradients over
`axis_name` itself, which is right under every backend. With `axis_name=None` it is a plain function
for one device. Each process has its share of a batch, in the order of the processes.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Array, Int, PyTree

from stretchnas_jax.machine import devices as devices_lib
from stretchnas_jax.machine import leaves
from stretchnas_jax.machine.devices import largest, process
from stretchnas_jax.machine.portable import PortableProgram
from stretchnas_jax.machine.programs import Memory, Program, compiler_knows_memory

__all__ = [
  'BACKENDS',
  'Devices',
  'Memory',
  'Program',
  'check_backend',
  'compiler_knows_memory',
  'data_parallel',
  'device_count',
  'fetch',
  'largest',
  'positions',
  'process',
  'replicate',
]

BACKENDS = ('pmap', 'shard_map', 'single')

Axes = Sequence[int | None]
"""For each argument of a step the axis that is split over devices; None for no axis."""


@dataclasses.dataclass(frozen=True)
class Devices:
  """The devices of a run, and the way in which steps are spread over them.

  Attributes:
    backend: 'pmap', 'shard_map' or 'single' (the first device alone).
    devices: those on which the steps run; None for all devices of this job. They may be devices of
      a target that this machine does not have: then programs can be compiled, but do not run.
    portable: for one device: a program runs on whichever device its arguments are, and is compiled
      once for all of them, see `portable`.
  """

  backend: str = 'pmap'
  devices: tuple[jax.Device, ...] | None = None
  portable: bool = False

  def check(self) -> None:
    """Raises ValueError unless the backend is known and can serve all processes of this job."""
    check_backend(self.backend)

  @property
  def count(self) -> int:
    """The number of devices over which a batch is spread, those of other processes included."""
    if self.devices is None or self.backend == 'single':
      return device_count(self.backend)
    return len(self.devices)

  @property
  def platform(self) -> str:
    """The kind of device, on which the form of a network depends: 'cpu', 'gpu' or 'tpu'."""
    return devices_lib.platform(self.devices)

  def describe(self) -> str:
    """Returns number, model and backend for a person, for example '4 x cpu, pmap'."""
    return f'{self.count} x {devices_lib.kind(self.devices)}, {self.backend}'

  def compile(
    self, step: Callable[..., PyTree], in_axes: Axes = (None, 0, None), donate: Sequence[int] = (0,)
  ) -> Program:
    """Returns the `Program` that runs a step on these devices; see `data_parallel`.

    Args:
      step: `step(*args, axis_name)`; all of its results are equal on all devices.
      in_axes: for each argument the axis of its leaves that is split, or None.
      donate: the arguments whose memory is reused.
    """
    make = functools.partial(
      data_parallel, step, in_axes=in_axes, backend=self.backend, donate=donate
    )
    if self.portable and self.devices is not None:
      return PortableProgram(lambda device: make(devices=(device,)), self.devices[0])
    return make(devices=self.devices)

  def replicate(self, tree: PyTree) -> PyTree:
    """Returns a tree that is on every device, in the form that compiled steps take and return."""
    return replicate(tree, self.backend, self.devices)

  def place(self, data: PyTree, other: PyTree = None, placed: PyTree = None) -> PyTree:
    """Returns data on every device; equal objects take their memory once.

    Args:
      data: a tree of arrays on the host.
      other: a tree that is on the devices already.
      placed: the result for `other`, returned where `data` is the same object.
    """
    return placed if data is other else self.replicate(data)

  def fetch(self, tree: PyTree) -> PyTree:
    """Returns the values of a tree as NumPy arrays; waits until they are computed."""
    return fetch(tree)


def check_backend(backend: str) -> None:
  """Raises ValueError unless a backend is known and can serve all processes of this job."""
  if backend not in BACKENDS:
    raise ValueError(f'parallel.backend is {backend!r}; allowed are {", ".join(BACKENDS)}')
  if backend == 'single' and jax.process_count() > 1:
    raise ValueError(
      f'parallel.backend is single, which is one device; this job has {jax.process_count()} '
      'processes: choose pmap or shard_map'
    )


def device_count(backend: str) -> int:
  """Returns over how many devices a backend spreads a batch."""
  return 1 if backend == 'single' else jax.device_count()


def data_parallel(
  step: Callable[..., PyTree],
  *,
  in_axes: Axes = (None, 0, None),
  backend: str = 'pmap',
  axis_name: str = 'batch',
  devices: Iterable[jax.Device] | None = None,
  donate: Sequence[int] = (0,),
) -> Program:
  """Compiles a step so that a batch is spread over devices and all else is on every device.

  Args:
    step: `step(*args, axis_name)`; all of its results are equal on all devices.
    in_axes: for each argument the axis of its leaves that is split, or None.
    backend: 'pmap', 'shard_map' or 'single' (the first device alone).
    axis_name: the name over which the step takes means.
    devices: those of all processes by default.
    donate: the arguments whose memory is reused.

  Returns:
    A `Program`, a function of the same arguments; its batch is this process's share. It raises
    ValueError where that share does not divide by the number of this process's devices.

  Raises:
    ValueError: the backend is unknown, or cannot serve several processes.

  Example:
    >>> double = data_parallel(lambda x, axis_name: 2 * x, in_axes=(None,), backend='single')
    >>> double(jnp.ones(2)).tolist()
    [2.0, 2.0]
  """
  check_backend(backend)
  chosen = devices_lib.all_devices(devices)
  if backend == 'single':
    single = functools.partial(step, axis_name=None)
    if devices is None:
      return Program(jax.jit(single, donate_argnums=donate))
    place = SingleDeviceSharding(chosen[0])
    return Program(jax.jit(single, donate_argnums=donate, in_shardings=place, out_shardings=place))
  bound = functools.partial(step, axis_name=axis_name)
  if backend == 'pmap':
    return _with_pmap(bound, in_axes, axis_name, chosen, donate)
  return _with_shard_map(bound, in_axes, axis_name, chosen, donate)


def _with_pmap(
  step: Callable[..., PyTree], in_axes: Axes, axis_name: str, devices: list[jax.Device],
  donate: Sequence[int],
) -> Program:  # fmt: skip
  mapped = jax.pmap(
    step, axis_name, in_axes=in_axes, out_axes=None, donate_argnums=donate, devices=devices
  )
  count = len(devices_lib.of_this_process(devices))

  def arrange(*args: PyTree) -> list[PyTree]:
    return [_split(arg, axis, count) for arg, axis in zip(args, in_axes)]

  return Program(mapped, arrange)


def _with_shard_map(
  step: Callable[..., PyTree],
  in_axes: Axes,
  axis_name: str,
  devices: list[jax.Device],
  donate: Sequence[int],
) -> Program:
  specs = tuple(
    PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, axis_name)
    for axis in in_axes
  )
  mesh = _mesh(devices, axis_name)
  # The step takes its means explicitly. The check of varying values refuses its custom gradients.
  mapped = jax.shard_map(
    step, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
  )
  count = len(devices_lib.of_this_process(devices))

  def arrange(*args: PyTree) -> Sequence[PyTree]:
    for arg, axis in zip(args, in_axes):
      _check_divisible(arg, axis, count)
    if count == len(devices):
      return args
    return [
      arg if axis is None else _join_shares(arg, NamedSharding(mesh, spec))
      for arg, axis, spec in zip(args, in_axes, specs)
    ]

  return Program(jax.jit(mapped, donate_argnums=donate), arrange)


def _mesh(devices: list[jax.Device], axis_name: str = 'batch') -> Mesh:
  return Mesh(np.array(devices), (axis_name,))


def _join_shares(tree: PyTree, sharding: NamedSharding) -> PyTree:
  """Returns arrays over all processes, made of the share that each process has."""
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def _check_divisible(tree: PyTree, axis: int | None, count: int) -> None:
  if axis is None:
    return
  for leaf in jax.tree.leaves(tree):
    if leaf.shape[axis] % count:
      raise ValueError(
        f'a batch of {leaf.shape[axis]} does not divide by {count} devices; choose a multiple'
      )


def _split(tree: PyTree, axis: int | None, count: int) -> PyTree:
  """Maps each leaf `[..., B, ...]` to `[..., count, B / count, ...]` at `axis`."""
  if axis is None:
    return tree
  _check_divisible(tree, axis, count)
  return jax.tree.map(lambda x: x.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :]), tree)


def replicate(
  tree: PyTree, backend: str = 'pmap', devices: Iterable[jax.Device] | None = None
) -> PyTree:
  """Returns a tree that is on every device, in the form that compiled steps take and return.

  Args:
    tree: arrays, typed keys among them.
    backend: 'pmap', 'shard_map' or 'single'.
    devices: those of all processes by default.

  Example:
    >>> replicate(jnp.ones(2), 'single').shape
    (2,)
  """
  everywhere = devices_lib.all_devices(devices)
  if backend == 'single':
    return jax.device_put(tree, everywhere[0])
  here = devices_lib.of_this_process(everywhere)
  if len(here) == len(everywhere):
    return jax.device_put(tree, NamedSharding(_mesh(everywhere), PartitionSpec()))
  # pmap takes arrays on this process's devices, shard_map arrays on those of all processes.
  mesh = _mesh(here if backend == 'pmap' else everywhere)
  sharding = NamedSharding(mesh, PartitionSpec())

  def put(leaf: PyTree) -> PyTree:
    numbers = np.asarray(leaves.raw(leaf))
    return leaves.wrap(jax.make_array_from_process_local_data(sharding, numbers), leaf)

  return jax.tree.map(put, tree)


def fetch(tree: PyTree) -> PyTree:
  """Returns the values of a tree as NumPy arrays; waits until they are computed.

  >>> fetch(jnp.ones(2))
  array([1., 1.], dtype=float32)
  """
  return jax.device_get(tree)


def positions(batch_size: int, axis_name: str | None) -> Int[Array, ' B']:
  """Returns the global positions `[B]` of this device's examples in a batch over all devices.

  Args:
    batch_size: B, the number of examples on one device.
    axis_name: the name of the axis over devices, as a step gets it; None for one device.
  """
  own = jnp.arange(batch_size, dtype=jnp.int32)
  return own if axis_name is None else own + jax.lax.axis_index(axis_name) * batch_size
