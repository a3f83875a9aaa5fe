"""The chips for which a step can be compiled on a machine that does not have them.

A target is a chip and a number of it. The figures of a chip are those of its maker; for NVIDIA the
compiler takes more of them, as OpenXLA lists them for its own compilations without a device.
"""

import importlib.util
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

# Measured on an H100: a step of 8,400 kernels took 0.074 s, and its bytes alone a quarter of that.
_SECONDS_PER_KERNEL = 0.074 / 8400
# JAX takes this part of the memory of a GPU, unless XLA_PYTHON_CLIENT_MEM_FRACTION says another.
_GPU_PART = 0.75
_GIB = 2**30


class Chip(NamedTuple):
  """A kind of device.

  Attributes:
    model: as a person reads it.
    platform: 'gpu' or 'tpu'.
    memory: bytes of its main memory.
    bandwidth: bytes a second between the main memory and the chip.
    flops: operations a second with a type of number: 'bfloat16', 'float32' as JAX multiplies it by
      default (TF32, or one pass of bfloat16 on a TPU), and 'highest' for full float32.
    most: how many of them one host has.
    usable: the part of the memory that JAX gives to programs.
    seconds_per_kernel: the time that the start of a kernel takes at least; 0 where one program
      runs all of them.
    compiler: figures for XLA's compiler, by their names in its target text.
    shape: of the smallest topology that the compiler takes.
  """

  model: str
  platform: str
  memory: int
  bandwidth: float
  flops: Mapping[str, float]
  most: int = 8
  usable: float = _GPU_PART
  seconds_per_kernel: float = _SECONDS_PER_KERNEL
  compiler: Mapping[str, int | float | str] = {}
  shape: str = ''

  def rate(self, dtype: str, precision: str) -> float:
    """Returns the most operations a second.

    Args:
      dtype: of the feature maps, 'float32' or 'bfloat16'.
      precision: as `model.precision` has it.
    """
    if dtype == 'bfloat16':
      return self.flops['bfloat16']
    return self.flops['highest' if precision == 'highest' else 'float32']


def _gpu(
  model: str, memory: int, bandwidth: float, flops: Mapping[str, float], **compiler: int | float
) -> Chip:
  return Chip(model, 'gpu', memory, bandwidth, flops, compiler=compiler)


def _tpu(
  model: str, gib: int, bandwidth: float, bfloat16: float, most: int, shape: str = '2x2'
) -> Chip:
  flops = {'bfloat16': bfloat16, 'float32': bfloat16, 'highest': bfloat16 / 6}
  memory, usable = gib * _GIB, 1 - 0.25 / gib
  return Chip(model, 'tpu', memory, bandwidth, flops, most, usable, 0.0, shape=shape)


_HOPPER = {'bfloat16': 989e12, 'float32': 495e12, 'highest': 67e12}

CHIPS = {
  'a100': _gpu(
    'NVIDIA A100-SXM4-80GB', 85_100_068_864, 2.03904e12,
    {'bfloat16': 312e12, 'float32': 156e12, 'highest': 19.5e12},
    major=8, cores=108, per_core=64, clock=1.41, cache=41_943_040, shared=167_936,
  ),
  'h100': _gpu(
    'NVIDIA H100 80GB HBM3', 84_942_979_072, 3.35232e12, _HOPPER,
    major=9, cores=132, per_core=128, clock=1.98, cache=52_428_800, shared=233_472,
  ),
  'h200': _gpu(
    'NVIDIA H200 141GB HBM3e', 151_397_597_184, 4.8e12, _HOPPER,
    major=9, cores=132, per_core=128, clock=1.98, cache=52_428_800, shared=233_472,
  ),
  'b200': _gpu(
    'NVIDIA B200', 191_514_411_008, 7.67232e12,
    {'bfloat16': 2.5e15, 'float32': 1.25e15, 'highest': 80e12},
    major=10, cores=148, per_core=128, clock=1.965, cache=132_644_864, shared=233_472,
  ),
  'v4': _tpu('TPU v4', 32, 1.228e12, 275e12, 4, '2x2x1'),
  'v5e': _tpu('TPU v5e', 16, 0.819e12, 197e12, 8),
  'v5p': _tpu('TPU v5p', 95, 2.765e12, 459e12, 4, '2x2x1'),
  'v6e': _tpu('TPU v6e', 32, 1.64e12, 918e12, 8),
}  # fmt: skip
"""The chips by the names that `--target` takes."""


class Target(NamedTuple):
  """Chips of one kind on one host.

  Attributes:
    name: as it was given, for example 'v5e:2x2'.
    chip: their kind.
    count: how many.
    topology: their arrangement, as the compiler names it; it may have more chips than `count`.
  """

  name: str
  chip: Chip
  count: int
  topology: str


def parse(name: str) -> Target:
  """Returns the target of a name.

  Args:
    name: a chip of `CHIPS`; after a colon a number of GPUs (`h100:4`), or the arrangement of TPUs
      (`v5e:2x2`). One chip without it.

  Raises:
    ValueError: one sentence that names the allowed values.
  """
  kind, _, rest = name.strip().lower().partition(':')
  chip = CHIPS.get(kind)
  if chip is None:
    raise ValueError(f'--target is {name!r}; the known chips are {", ".join(CHIPS)}')
  like = f'{kind}:4' if chip.platform == 'gpu' else f'{kind}:{chip.shape}'
  pattern = r'[1-9]\d*' if chip.platform == 'gpu' else r'[1-9]\d*(x[1-9]\d*){1,2}'
  if rest and not re.fullmatch(pattern, rest) or name.strip().endswith(':'):
    raise ValueError(f'--target is {name!r}; give {kind} for one chip, or for several {like}')
  count = math.prod(int(side) for side in rest.split('x')) if rest else 1
  if count > chip.most:
    raise ValueError(
      f'--target is {name!r}, which is {count} chips; a host has at most {chip.most} of them, and '
      'programs for several hosts are not foreseen'
    )
  if chip.platform == 'gpu':
    return Target(name, chip, count, f'1x1x{count}')
  return Target(name, chip, count, f'{kind}:{chip.shape if count == 1 else rest}')


def check_installed(target: Target) -> None:
  """Raises ValueError where the compiler of a target is not installed; it names the extra.

  Args:
    target: of a benchmark.
  """
  if any(map(_is_there, _COMPILERS[target.chip.platform])):
    return
  raise ValueError(
    f'--target is {target.name!r}, and its compiler is not installed: pip install '
    '"stretchnas_jax[targets]", best in an environment of its own; it needs no such chip'
  )


_COMPILERS = {
  'gpu': ('jax_plugins.xla_cuda13', 'jax_plugins.xla_cuda12'),
  'tpu': ('libtpu',),
}


def _is_there(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:
    return False


def target_text(chip: Chip) -> str:
  """Returns the figures of a GPU as XLA's compiler takes them, a GpuTargetConfigProto as text.

  Args:
    chip: a GPU of `CHIPS`.
  """
  return _TEXT.format(
    **chip.compiler,
    model=chip.model,
    memory=chip.memory,
    bandwidth=int(chip.bandwidth),
    optin=int(chip.compiler['shared']) - 1024,
    extension='NONE' if chip.compiler['major'] == 8 else 'ACCELERATED_FEATURES',
  )


_TEXT = """gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: {cache}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {optin}
  cuda_compute_capability {{ major: {major} feature_extension: {extension} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  device_vendor: "NVIDIA Corporation"
  platform_version: "Compute Capability {major}.0"
  device_address_bits: 64
  pcie_bandwidth: 34359738368
  ecc_enabled: true
  name: "{model}"
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
  cub_version: "3.1.2"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{model}"
"""
