"""The devices and processes of this job. The one file that asks JAX which there are."""

import collections
import importlib.metadata
import re
from collections.abc import Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils

# For each platform of `JAX_PLATFORMS`, how JAX gets to know it.
_PLATFORMS = {
  'cpu': 'pip install --force-reinstall jaxlib',
  'cuda': 'pip install "jax[cuda13]", or "jax[cuda12]" for an older driver',
  'gpu': 'pip install "jax[cuda13]", or "jax[cuda12]" for an older driver',
  'rocm': 'pip install "jax[rocm7-local]"',
  'tpu': 'pip install "jax[tpu]"',
}
_START_FAULT = re.compile(
  "(unable to|could not) initialize backend|unknown backend|backend '.*' (failed to initialize"
  '|is not in the list|provides no devices)',
  re.IGNORECASE,
)
_PLUGINS = {'cuda': 'jax-cuda', 'gpu': 'jax-cuda', 'rocm': 'jax-rocm', 'tpu': 'libtpu'}


def start() -> None:
  """Starts the devices of this process; a later call changes nothing.

  Raises:
    ValueError: they cannot start; one sentence says what to install or which value to give.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    raise ValueError(start_fault(error) or str(error)) from error


def start_fault(error: BaseException) -> str | None:
  """Returns the sentence for devices that cannot start; None for any other error.

  Args:
    error: an error of JAX.
  """
  if not _is_start_fault(error):
    return None
  values = jax.config.values
  variable = 'JAX_PLATFORMS'
  if not values['jax_platforms'] and values['jax_platform_name']:
    variable = 'JAX_PLATFORM_NAME'
  value = values[variable.lower()]
  wanted = [name.strip() for name in (value or '').split(',') if name.strip()]
  named = f'{variable} is {",".join(wanted)!r}' if wanted else f'{variable} is not set'
  unknown = [name for name in wanted if name not in _PLATFORMS]
  if unknown:
    return (
      f'{named}, and JAX knows no platform {unknown[0]!r}: give cpu, cuda, rocm or tpu, or unset '
      f'{variable}'
    )
  missing = [name for name in wanted if name != 'cpu'] or ['cpu']
  candidates = missing if wanted else _PLATFORMS  # JAX has chosen the platform by itself
  platform = next((name for name in candidates if f"'{name}'" in str(error)), missing[0])
  if _is_installed(_PLUGINS.get(platform, '')):
    words = ' '.join(str(error).split())[:300]
    return (
      f'{named}, and the {platform} devices do not start, though their package is installed: check '
      'that the machine has one and that its driver works (nvidia-smi, rocm-smi), or set '
      f'JAX_PLATFORMS=cpu{words and f"; JAX says: {words}"}'
    )
  return (
    f'{named}, and this JAX cannot use {platform} devices: {_PLATFORMS[platform]}; or set '
    'JAX_PLATFORMS=cpu'
  )


def _is_start_fault(error: BaseException) -> bool:
  """Returns whether JAX raised an error since no device started."""
  if isinstance(error, RuntimeError):
    return _START_FAULT.search(str(error)) is not None
  if not isinstance(error, AssertionError) or not jax.config.values['jax_platforms']:
    return False
  # Where only the packages for NVIDIA are missing, JAX 0.10 fails an assertion without words.
  try:
    jax.devices()
  except (RuntimeError, AssertionError):
    return True
  return False


def _is_installed(beginning: str) -> bool:
  """Returns whether a distribution is installed whose name begins so."""
  if not beginning:
    return False
  names = (found.metadata['Name'] or '' for found in importlib.metadata.distributions())
  return any(name.lower().replace('_', '-').startswith(beginning) for name in names)


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


def kind(devices: Iterable[jax.Device] | None = None) -> str:
  """Returns the model of devices, for example 'NVIDIA H200' or 'cpu'; by default of this job's."""
  return all_devices(devices)[0].device_kind


def platform(devices: Iterable[jax.Device] | None = None) -> str:
  """Returns 'cpu', 'gpu' or 'tpu', on which devices compute; by default those of this job."""
  return jax.default_backend() if devices is None else all_devices(devices)[0].platform


def names() -> list[str]:
  """Returns platform and model of each device of the job, for example 'cpu: cpu'."""
  return [f'{device.platform}: {device.device_kind}' for device in jax.devices()]


def on_cpu() -> bool:
  """Returns True where steps run on a CPU."""
  return jax.default_backend() == 'cpu'


def process() -> tuple[int, int]:
  """Returns the number of this process, counted from 0, and the number of processes."""
  return jax.process_index(), jax.process_count()


def check_equal() -> None:
  """Raises ValueError unless all processes of this job have the same number of devices."""
  counts = collections.Counter(device.process_index for device in jax.devices())
  other = next((index for index in sorted(counts) if counts[index] != counts[0]), 0)
  if other:
    raise ValueError(
      f'process 0 has {counts[0]} devices and process {other} has {counts[other]}: all need the '
      'same number, so choose devices by JAX_LOCAL_DEVICE_IDS, on a CPU by JAX_NUM_CPU_DEVICES'
    )


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
