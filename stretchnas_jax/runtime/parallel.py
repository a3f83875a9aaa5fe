"""The one file that names devices: how a step runs on all of them.

A step is a function `step(*args, axis_name)` that takes means over `axis_name` itself (of the loss
and of the gradients, which is right under every backend); with `axis_name=None` it is a plain
function for one device.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

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
    devices: all local ones by default.
    donate: the arguments whose memory is reused.

  Returns:
    A function of the same arguments. It raises ValueError where a batch does not divide by the
    number of devices.
  """
  if backend not in BACKENDS:
    raise ValueError(f'parallel.backend is {backend!r}; allowed are {", ".join(BACKENDS)}')
  devices = list(devices or jax.devices())
  if backend == 'single':
    return jax.jit(functools.partial(step, axis_name=None), donate_argnums=donate)
  bound = functools.partial(step, axis_name=axis_name)
  if backend == 'pmap':
    mapped = jax.pmap(
      bound, axis_name, in_axes=in_axes, out_axes=None, donate_argnums=donate, devices=devices
    )
    return lambda *args: mapped(
      *[split(arg, axis, len(devices)) for arg, axis in zip(args, in_axes)]
    )
  specs = tuple(P() if axis is None else P(*[None] * axis, axis_name) for axis in in_axes)
  # The step takes its means explicitly; tracking of what varies would refuse its custom gradients.
  mapped = jax.shard_map(
    bound, mesh=mesh_of(devices, axis_name), in_specs=specs, out_specs=P(), check_vma=False
  )
  compiled = jax.jit(mapped, donate_argnums=donate)

  def run(*args):
    for arg, axis in zip(args, in_axes):
      check_divisible(arg, axis, len(devices))
    return compiled(*args)

  return run


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
  devices = list(devices or jax.devices())
  if backend == 'single':
    return jax.device_put(tree, devices[0])
  return jax.device_put(tree, NamedSharding(mesh_of(devices), P()))


def fetch(tree):
  """The values of a tree on the host; waits for them."""
  return jax.device_get(tree)


def device_count(backend):
  return 1 if backend == 'single' else jax.device_count()


def positions(batch_size, axis_name):
  """Global positions `[B]` of this device's examples in a batch that is spread over devices."""
  local = jnp.arange(batch_size, dtype=jnp.int32)
  return local if axis_name is None else local + jax.lax.axis_index(axis_name) * batch_size
