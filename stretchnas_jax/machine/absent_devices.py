"""The devices of a target that this machine does not have. JAX compiles for them and runs nothing.

The process must work on its CPU (JAX_PLATFORMS=cpu), and `compiler_process` gives it the rest.
"""

import jax
from jax.experimental import topologies

from stretchnas_jax.machine import targets
from stretchnas_jax.machine.targets import Target


def of(target: Target) -> tuple[jax.Device, ...]:
  """Returns the devices of a target.

  Args:
    target: the chips.

  Raises:
    ValueError: JAX cannot describe them; one sentence holds its own words.
  """
  try:
    if target.chip.platform == 'gpu':
      text = targets.target_text(target.chip)
      found = topologies.get_topology_desc(
        platform='cuda', target_config=text, topology=target.topology
      )
    else:
      found = topologies.get_topology_desc(platform='tpu', topology_name=target.topology)
  except (RuntimeError, ValueError, AssertionError) as error:
    words = ' '.join(str(error).split())[:300] or type(error).__name__
    raise ValueError(f'JAX {jax.__version__} cannot compile for {target.name}: {words}') from error
  return tuple(found.devices[: target.count])
