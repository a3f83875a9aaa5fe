"""DARTS' operations in PyTorch, for `torch_networks`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OPERATIONS = (
  'none', 'max_pool_3x3', 'avg_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'sep_conv_5x5',
  'dil_conv_3x3', 'dil_conv_5x5',
)  # fmt: skip

# Input and output channels, kernel, and further options of a convolution.
_Conv = tuple[int, int, int | tuple[int, int], dict[str, Any]]


def relu_convs_bn(*convs: _Conv, affine: bool) -> list[nn.Module]:
  """Returns a ReLU, convolutions without bias, and batch norm.

  Args:
    *convs: the convolutions.
    affine: True for batch norm with scale and bias.
  """
  layers = [nn.Conv2d(i, o, k, bias=False, **options) for i, o, k, options in convs]
  return [nn.ReLU(), *layers, nn.BatchNorm2d(layers[-1].out_channels, affine=affine)]


def _separable(c: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
  """Returns a depthwise and a pointwise convolution, with ReLU and batch norm."""
  padding = dilation * (kernel - 1) // 2
  depthwise = {'stride': stride, 'padding': padding, 'dilation': dilation, 'groups': c}
  return relu_convs_bn((c, c, kernel, depthwise), (c, c, 1, {}), affine=affine)


class Halve(nn.Module):
  """Halves height and width: two strided 1x1 convolutions, the second one pixel further."""

  def __init__(self, c_in: int, c_out: int, affine: bool) -> None:
    """Makes the layers.

    Args:
      c_in: input channels.
      c_out: output channels.
      affine: True for batch norm with scale and bias.
    """
    super().__init__()
    half = c_out // 2
    self.even = nn.Conv2d(c_in, half, 1, stride=2, bias=False)
    self.odd = nn.Conv2d(c_in, c_out - half, 1, stride=2, bias=False)
    self.norm = nn.BatchNorm2d(c_out, affine=affine)

  def forward(self, x: Tensor) -> Tensor:
    """Maps `[B, C, H, W]` to `[B, C', H / 2, W / 2]`."""
    x = F.relu(x)
    return self.norm(torch.cat((self.even(x), self.odd(x[..., 1:, 1:])), 1))


class _Zero(nn.Module):
  """The operation `none`, by multiplication with zero."""

  def __init__(self, stride: int) -> None:
    super().__init__()
    self.stride = stride

  def forward(self, x: Tensor) -> Tensor:
    """Returns zeros of the output's shape."""
    return x[..., :: self.stride, :: self.stride] * 0.0


def _pool(name: str, c: int, stride: int, affine: bool, norm: bool) -> nn.Module:
  """Returns a pool, with batch norm if `norm` is True."""
  if name.startswith('avg'):
    layer = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
  else:
    layer = nn.MaxPool2d(3, stride, 1)
  return nn.Sequential(layer, nn.BatchNorm2d(c, affine=affine)) if norm else layer


def operation(name: str, c: int, stride: int, affine: bool, pool_norm: bool = False) -> nn.Module:
  """Returns the module of an operation.

  Args:
    name: of the operation.
    c: channels.
    stride: 1 or 2.
    affine: True for batch norm with scale and bias.
    pool_norm: True for batch norm after pools, as in a search.
  """
  if name == 'none':
    return _Zero(stride)
  if name == 'skip_connect':
    return nn.Identity() if stride == 1 else Halve(c, c, affine)
  if name.endswith('pool_3x3'):
    return _pool(name, c, stride, affine, pool_norm)
  if name == 'conv_7x1_1x7':
    row = (c, c, (1, 7), {'stride': (1, stride), 'padding': (0, 3)})
    column = (c, c, (7, 1), {'stride': (stride, 1), 'padding': (3, 0)})
    return nn.Sequential(*relu_convs_bn(row, column, affine=affine))
  size = int(name[-1])
  if name.startswith('dil_conv'):
    return nn.Sequential(*_separable(c, size, stride, 2, affine))
  first, second = (_separable(c, size, s, 1, affine) for s in (stride, 1))
  return nn.Sequential(*first, *second)
