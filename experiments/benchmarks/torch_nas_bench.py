"""The search network of NAS-Bench-201 in PyTorch, for `torch_darts`."""

import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.benchmarks import torch_operations

OPERATIONS = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')
_NODES = 4
_STAGES = 3


def _relu_conv_bn(c_in: int, c_out: int, size: int, stride: int, affine: bool) -> nn.Module:
  """Returns ReLU, convolution and batch norm; without an affine norm the convolution has a bias."""
  conv = nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=not affine)
  return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(c_out, affine=affine))


def _operation(name: str, c: int) -> nn.Module:
  """Returns the module of an operation on `c` channels."""
  if name.startswith('nor_conv'):
    return _relu_conv_bn(c, c, int(name[-1]), 1, affine=False)
  return torch_operations.operation(name, c, 1, affine=False)


class _Cell(nn.Module):
  """Every operation on each of the six edges; the output is the last node."""

  def __init__(self, c: int, lean: bool) -> None:
    super().__init__()
    self.live = [k for k, name in enumerate(OPERATIONS) if not (lean and name == 'none')]
    self.edges = nn.ModuleList(
      nn.ModuleList(_operation(name, c) for name in OPERATIONS)
      for target in range(1, _NODES)
      for _ in range(target)
    )

  def forward(self, x: Tensor, weights: Iterable[Sequence[Tensor]]) -> Tensor:
    """Returns the last node.

    Args:
      x: the first node.
      weights: of the operations of each edge.
    """
    nodes, edges = [x], iter(zip(self.edges, weights))
    for _ in range(1, _NODES):
      terms = [self._mixture(node, *next(edges)) for node in nodes]
      nodes.append(functools.reduce(torch.add, terms))
    return nodes[-1]

  def _mixture(self, x: Tensor, operations: nn.ModuleList, weights: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, [weights[k] * operations[k](x) for k in self.live])


class _Residual(nn.Module):
  """The block between two stages: half the side, twice the channels."""

  def __init__(self, c: int) -> None:
    super().__init__()
    convs = _relu_conv_bn(c, 2 * c, 3, 2, affine=True), _relu_conv_bn(2 * c, 2 * c, 3, 1, True)
    self.convs = nn.Sequential(*convs)
    self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c, 2 * c, 1, bias=False))

  def forward(self, x: Tensor) -> Tensor:
    """Maps `[B, C, H, W]` to `[B, 2 C, H / 2, W / 2]`."""
    return self.shortcut(x) + self.convs(x)


class Network(nn.Module):
  """Stem, three stages of N cells with a residual block between them, global mean, classifier."""

  def __init__(self, channels: int, cells: int, lean: bool, colours: int = 3) -> None:
    """Makes the layers.

    Args:
      channels: C of the first stage.
      cells: N, the cells of a stage.
      lean: True leaves out the operation `none`.
      colours: channels of an image.
    """
    super().__init__()
    conv = nn.Conv2d(colours, channels, 3, padding=1, bias=False)
    self.stem = nn.Sequential(conv, nn.BatchNorm2d(channels))
    self.layers = nn.ModuleList()
    for stage in range(_STAGES):
      c = channels * 2**stage
      if stage:
        self.layers.append(_Residual(c // 2))
      self.layers += [_Cell(c, lean) for _ in range(cells)]
    self.last_norm, self.classifier = nn.BatchNorm2d(c), nn.Linear(c, 10)

  def forward(
    self, x: Tensor, settings: Sequence[Iterable[Sequence[Tensor]]]
  ) -> tuple[Tensor, None]:
    """Returns the logits, and None for those of an auxiliary head.

    Args:
      x: images `[B, C, H, W]`.
      settings: the weights of the operations of each edge, in a sequence of one.
    """
    x = self.stem(x)
    for layer in self.layers:
      x = layer(x, settings[0]) if isinstance(layer, _Cell) else layer(x)
    return self.classifier(F.relu(self.last_norm(x)).mean((2, 3))), None


def supernet(
  channels: int, cells: int, lean: bool = False, colours: int = 3
) -> tuple[Network, list[Tensor]]:
  """Returns the network of all operations, and its alpha `[6, 5]`, which it does not hold.

  Args:
    channels: C of the first stage.
    cells: N, the cells of a stage.
    lean: True leaves out the operation `none`.
    colours: channels of an image.
  """
  edges = _NODES * (_NODES - 1) // 2
  alpha = (1e-3 * torch.randn(edges, len(OPERATIONS))).requires_grad_()
  return Network(channels, cells, lean, colours), [alpha]
