"""Dense kernels for depthwise and pointwise ones, and dilated convolutions without dilation.

Letters: C input and D output channels, n edges, k pixels of a kernel's side.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray


def convolve(
  x: Float[Array, 'B H W C'], kernel: Float[Array, 'k k C D'], stride: int = 1, dilation: int = 1
) -> Float[Array, 'B h w D']:
  """Returns a dense convolution, padded so that stride 1 keeps the size.

  Args:
    x: feature maps.
    kernel: cast to the type of `x`.
    stride: 1 or 2.
    dilation: the distance of the kernel's pixels.
  """
  pad = dilation * (kernel.shape[0] // 2)
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    (stride, stride),
    [(pad, pad)] * 2,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def merge_all(
  params: Mapping[str, Mapping[str, Float[AnyArray, 'n stages ...']]],
) -> dict[str, dict[str, Float[AnyArray, 'n ...']]]:
  """Returns the parameters of operations, with one dense kernel for each stage of a convolution.

  Args:
    params: by operation, `{'depthwise': [n, stages, C, k, k], 'pointwise': [n, stages, C, D]}`, or
      arrays of other names, which stay as they are.
  """
  found = {}
  for name, arrays in params.items():
    if 'depthwise' not in arrays:
      found[name] = dict(arrays)
      continue
    depthwise, pointwise = arrays['depthwise'], arrays['pointwise']
    found[name] = {
      f'stage_{i}': jnp.einsum('nchw,ncd->nhwcd', depthwise[:, i], pointwise[:, i])
      for i in range(depthwise.shape[1])
    }
  return found


def stage(kernels: Mapping[str, Float[Array, 'n k k C D']], i: int) -> Float[Array, 'k k C n D']:
  """Returns the dense kernel of a stage, with the edges beside the outputs.

  Args:
    kernels: of an operation, from `merge_all`.
    i: the stage, 0 or 1.
  """
  return jnp.moveaxis(kernels[f'stage_{i}'], 0, 3)


def widen(kernel: Float[Array, 'k k *r'], size: int) -> Float[Array, 'm m *r']:
  """Returns a kernel as one of `size` by `size` pixels, with zeros around it.

  Args:
    kernel: a kernel of odd side.
    size: an odd side, at least the kernel's.
  """
  edge = (size - kernel.shape[0]) // 2
  return jnp.pad(kernel, [(edge, edge)] * 2 + [(0, 0)] * (kernel.ndim - 2))


def diagonal(kernel: Float[Array, 'k k C m D']) -> Float[Array, 'k k mC mD']:
  """Returns one kernel for m edges side by side, in which each sees its own channels alone."""
  height, width, channels, m, outputs = kernel.shape
  own = np.eye(m, dtype=bool)[:, None, :, None]
  apart = jnp.where(own, kernel[:, :, None], 0)
  return apart.reshape(height, width, m * channels, m * outputs)


def join_outputs(kernel: Float[Array, 'k k C *r']) -> Float[Array, 'k k C D']:
  """Returns a kernel with all outputs on one axis."""
  return kernel.reshape(*kernel.shape[:3], -1)


def take_apart(x: Float[Array, 'B H W C']) -> Float[Array, '4*B H//2 W//2 C']:
  """Returns four images for each: the pixels of equal parity, for even H and W."""
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(2, 4, 0, 1, 3, 5)
  return x.reshape(4 * batch, height // 2, width // 2, channels)


def put_together(x: Float[Array, 'b h w *r']) -> Float[Array, 'b//4 2*h 2*w *r']:
  """Returns the images that `take_apart` has taken apart."""
  (count, height, width), rest = x.shape[:3], x.shape[3:]
  x = x.reshape(2, 2, count // 4, height, width, -1).transpose(2, 3, 0, 4, 1, 5)
  return x.reshape(count // 4, 2 * height, 2 * width, *rest)
