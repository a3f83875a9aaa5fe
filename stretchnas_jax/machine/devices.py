"""The devices and processes of this job. The one file that asks JAX which there are."""

from collections.abc import Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils


def all_devices(devices: Iterable[jax.Device] | None = None) -> list[jax.Device]:
  """Returns devices in the order of their processes, so that each process has one piece of a batch.

  Args:
    devices: the devices to sort; by default those of all processes.
  """
  chosen = jax.devices() if devices is None else devices
  return sorted(chosen, key=lambda device: (device.process_index, device.id))


def of_this_process(devices: Iterable[jax.Device] | None = None) -> list[jax.Device]:
  """Returns the devices that this process can address, by default all of them."""
  own = jax.process_index()
  return [device for device in all_devices(devices) if device.process_index == own]


def kind() -> str:
  """Returns the model of the devices, for example 'NVIDIA H200' or 'cpu'."""
  return jax.devices()[0].device_kind


def names() -> list[str]:
  """Returns platform and model of each device of the job, for example 'cpu: cpu'."""
  return [f'{device.platform}: {device.device_kind}' for device in jax.devices()]


def on_cpu() -> bool:
  """Returns True where steps run on a CPU."""
  return jax.default_backend() == 'cpu'


def on_gpu() -> bool:
  """Returns True where steps run on a GPU."""
  return jax.default_backend() == 'gpu'


def process() -> tuple[int, int]:
  """Returns the number of this process, counted from 0, and the number of processes."""
  return jax.process_index(), jax.process_count()


def all_texts(text: str) -> list[str]:
  """Returns the texts of all processes in their order; each of them must call this.

  Args:
    text: of this process.
  """
  if jax.process_count() == 1:
    return [text]
  own = np.frombuffer(text.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(own))).ravel()
  padded = np.zeros(int(sizes.max()), np.uint8)
  padded[: len(own)] = own
  rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
  return [bytes(row[:size]).decode() for row, size in zip(rows, sizes)]


def largest(number: int) -> int:
  """Returns the largest of a whole number over all processes; each of them must call this."""
  return int(multihost_utils.process_allgather(np.int32(number)).max())
