"""Networks with the names of layers that DARTS' code gives them, in PyTorch, for tests alone."""

import torch
from torch import nn
from torch.nn import functional as F

from experiments.benchmarks import torch_operations


def norm(channels):
  """Returns a batch norm with random numbers everywhere."""
  layer = nn.BatchNorm2d(channels)
  for values in (layer.weight.data, layer.running_var):
    values.uniform_(0.5, 1.5)
  for values in (layer.bias.data, layer.running_mean):
    values.normal_(0, 0.3)
  return layer


class Op(nn.Module):
  """Layers in a row, under the name `op`."""

  def __init__(self, *layers):
    super().__init__()
    self.op = nn.Sequential(*layers)

  def forward(self, x):
    return self.op(x)


class Reduce(nn.Module):
  """DARTS' FactorizedReduce."""

  def __init__(self, inputs, outputs):
    super().__init__()
    self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
    self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
    self.bn = norm(outputs)

  def forward(self, x):
    x = F.relu(x)
    return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


def enter(inputs, outputs):
  """Returns DARTS' ReLUConvBN."""
  return Op(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))


def operation(name, channels, stride):
  """Returns an operation; plain layers are those of the benchmark."""
  if name == 'skip_connect' and stride == 2:
    return Reduce(channels, channels)
  plain = torch_operations.operation(name, channels, stride, True)
  for i, layer in enumerate(plain if isinstance(plain, nn.Sequential) else ()):
    if isinstance(layer, nn.BatchNorm2d):
      plain[i] = norm(channels)
  return Op(*plain) if name.startswith(('sep', 'dil')) else plain


class Cell(nn.Module):
  """DARTS' cell; its operations have the order of the genotype."""

  def __init__(self, edges, concat, inputs, channels, reduction, after_reduction):
    super().__init__()
    self.ends, self.concat = [edge[1:] for edge in edges], concat
    self.preprocess0 = (Reduce if after_reduction else enter)(inputs[0], channels)
    self.preprocess1 = enter(inputs[1], channels)
    self._ops = nn.ModuleList(
      operation(name, channels, 2 if reduction and source < 2 else 1) for name, source, _ in edges
    )

  def forward(self, s0, s1):
    nodes = {0: self.preprocess0(s0), 1: self.preprocess1(s1)}
    for op, (source, node) in zip(self._ops, self.ends):
      value = op(nodes[source])
      nodes[node] = nodes[node] + value if node in nodes else value
    return torch.cat([nodes[node] for node in self.concat], 1)


class Head(nn.Module):
  """The auxiliary head, whose weights alone matter here."""

  def __init__(self, channels, classes, stem):
    super().__init__()
    last = [norm(768)] if stem == 'cifar' else []
    self.features = nn.Sequential(
      nn.ReLU(), nn.AvgPool2d(5), nn.Conv2d(channels, 128, 1, bias=False), norm(128), nn.ReLU(),
      nn.Conv2d(128, 768, 2, bias=False), *last, nn.ReLU(),
    )  # fmt: skip
    self.classifier = nn.Linear(768, classes)


class Network(nn.Module):
  """`NetworkCIFAR` and `NetworkImageNet` of a genotype."""

  def __init__(self, genotype, channels, layers, classes, stem='cifar', auxiliary=False):
    super().__init__()
    conv = lambda i, o, stride: nn.Conv2d(i, o, 3, stride, 1, bias=False)
    if stem == 'cifar':
      self.stem = nn.Sequential(conv(3, 3 * channels, 1), norm(3 * channels))
      widths = [3 * channels] * 2
    else:
      half, widths = channels // 2, [channels] * 2
      self.stem0 = nn.Sequential(
        conv(3, half, 2), norm(half), nn.ReLU(), conv(half, channels, 2), norm(channels)
      )
      self.stem1 = nn.Sequential(nn.ReLU(), conv(channels, channels, 2), norm(channels))
    self.cells, before = nn.ModuleList(), stem == 'imagenet'
    for layer in range(layers):
      reduction = layer in (layers // 3, 2 * layers // 3)
      channels *= 2 if reduction else 1
      kind = 'reduce' if reduction else 'normal'
      edges, concat = getattr(genotype, kind), getattr(genotype, f'{kind}_concat')
      self.cells.append(Cell(edges, concat, widths, channels, reduction, before))
      widths, before = [widths[1], channels * len(concat)], reduction
      if auxiliary and layer == 2 * layers // 3:
        self.auxiliary_head = Head(widths[1], classes, stem)
    self.classifier = nn.Linear(widths[1], classes)

  def forward(self, x):
    if hasattr(self, 'stem'):
      s0 = s1 = self.stem(x)
    else:
      s0 = self.stem0(x)
      s1 = self.stem1(s0)
    for cell in self.cells:
      s0, s1 = s1, cell(s0, s1)
    return self.classifier(s1.mean((2, 3)))
