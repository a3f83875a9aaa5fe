"""DARTS' networks in PyTorch, for `torch_darts`: of every operation, and of a genotype's."""

import functools
import json
import pathlib

import torch
from torch import nn
from torch.nn import functional as F

OPERATIONS = (
  'none', 'max_pool_3x3', 'avg_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'sep_conv_5x5',
  'dil_conv_3x3', 'dil_conv_5x5',
)  # fmt: skip
# Read as a file: importing the package would import JAX, whose memory and threads would count.
ZOO = pathlib.Path(__file__).parents[2] / 'stretchnas_jax' / 'cells' / 'zoo.json'


def add(terms):
  return functools.reduce(torch.add, terms)


# ---- operations ----------------------------------------------------------------------------------


def relu_convs_bn(*convs, affine):
  """ReLU, convolutions (c_in, c_out, kernel, further options) without bias, batch norm."""
  layers = [nn.Conv2d(i, o, k, bias=False, **options) for i, o, k, options in convs]
  return [nn.ReLU(), *layers, nn.BatchNorm2d(layers[-1].out_channels, affine=affine)]


def separable(c, kernel, stride, dilation, affine):
  padding = dilation * (kernel - 1) // 2
  depthwise = {'stride': stride, 'padding': padding, 'dilation': dilation, 'groups': c}
  return relu_convs_bn((c, c, kernel, depthwise), (c, c, 1, {}), affine=affine)


class Halve(nn.Module):
  """Halves height and width: two strided 1x1 convolutions, the second one pixel further."""

  def __init__(self, c_in, c_out, affine):
    super().__init__()
    half = c_out // 2
    self.even = nn.Conv2d(c_in, half, 1, stride=2, bias=False)
    self.odd = nn.Conv2d(c_in, c_out - half, 1, stride=2, bias=False)
    self.norm = nn.BatchNorm2d(c_out, affine=affine)

  def forward(self, x):
    x = F.relu(x)
    return self.norm(torch.cat((self.even(x), self.odd(x[..., 1:, 1:])), 1))


class Zero(nn.Module):
  def __init__(self, stride):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    return x[..., :: self.stride, :: self.stride] * 0.0


def pool(name, c, stride, affine, norm):
  if name.startswith('avg'):
    layer = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
  else:
    layer = nn.MaxPool2d(3, stride, 1)
  return nn.Sequential(layer, nn.BatchNorm2d(c, affine=affine)) if norm else layer


def operation(name, c, stride, affine, pool_norm=False):
  """The module of one operation on `c` channels; pools are normalised in a search alone."""
  if name == 'none':
    return Zero(stride)
  if name == 'skip_connect':
    return nn.Identity() if stride == 1 else Halve(c, c, affine)
  if name.endswith('pool_3x3'):
    return pool(name, c, stride, affine, pool_norm)
  if name == 'conv_7x1_1x7':
    row = (c, c, (1, 7), {'stride': (1, stride), 'padding': (0, 3)})
    column = (c, c, (7, 1), {'stride': (stride, 1), 'padding': (3, 0)})
    return nn.Sequential(*relu_convs_bn(row, column, affine=affine))
  size = int(name[-1])
  if name.startswith('dil_conv'):
    return nn.Sequential(*separable(c, size, stride, 2, affine))
  first, second = (separable(c, size, s, 1, affine) for s in (stride, 1))
  return nn.Sequential(*first, *second)


# ---- networks ------------------------------------------------------------------------------------


class Cell(nn.Module):
  """What both networks' cells share: two previous outputs, brought to c channels, enter."""

  def __init__(self, c_before, c_previous, c, reduces, after_reduction, affine):
    super().__init__()
    self.reduces = reduces
    project = lambda c_in: nn.Sequential(*relu_convs_bn((c_in, c, 1, {}), affine=affine))
    self.enter0 = Halve(c_before, c, affine) if after_reduction else project(c_before)
    self.enter1 = project(c_previous)

  def forward(self, s0, s1, setting):
    states = [self.enter0(s0), self.enter1(s1)]
    self.add_nodes(states, setting)
    return torch.cat([states[i] for i in self.concat], 1)


class MixedCell(Cell):
  """Every operation on every edge; `setting` holds the weights, a list of scalars an edge."""

  def __init__(self, *where, nodes, names, lean):
    super().__init__(*where, affine=False)
    c, self.nodes, self.concat = where[2], nodes, range(2, 2 + nodes)
    self.live = [k for k, name in enumerate(names) if not (lean and name == 'none')]
    stride = lambda source: 2 if self.reduces and source < 2 else 1
    self.edges = nn.ModuleList(
      nn.ModuleList(operation(name, c, stride(source), False, True) for name in names)
      for node in range(nodes)
      for source in range(2 + node)
    )

  def add_nodes(self, states, setting):
    edges = iter(zip(self.edges, setting))
    for _ in range(self.nodes):
      states.append(add(self.mixture(state, *next(edges)) for state in tuple(states)))

  def mixture(self, x, ops, weights):
    return add(weights[k] * ops[k](x) for k in self.live)


class FixedCell(Cell):
  """The cell of a genotype; `setting` is the probability of drop path."""

  def __init__(self, *where, genotype):
    super().__init__(*where, affine=True)
    kind = 'reduce' if self.reduces else 'normal'
    edges, self.concat = genotype[kind], genotype[f'{kind}_concat']
    nodes = sorted({destination for _, _, destination in edges})
    self.sources = [[source for _, source, to in edges if to == node] for node in nodes]
    stride = lambda source: 2 if self.reduces and source < 2 else 1
    self.ops = nn.ModuleList(
      nn.ModuleList(
        operation(name, where[2], stride(source), True) for name, source, to in edges if to == node
      )
      for node in nodes
    )

  def add_nodes(self, states, setting):
    for ops, sources in zip(self.ops, self.sources):
      states.append(add(self.edge(op, states[i], setting) for op, i in zip(ops, sources)))

  def edge(self, op, x, drop):
    h = op(x)
    if drop == 0 or not self.training or isinstance(op, nn.Identity):
      return h
    return h * (h.new_empty(len(h), 1, 1, 1).bernoulli_(1 - drop) / (1 - drop))


def auxiliary_head(channels, classes):
  return nn.Sequential(
    nn.ReLU(), nn.AvgPool2d(5, 3, 0, count_include_pad=False),
    nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
    nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU(),
    nn.Flatten(), nn.Linear(768, classes),
  )  # fmt: skip


class Network(nn.Module):
  """Stem, cells (half the size, twice the channels at 1/3 and 2/3), global mean, classifier."""

  def __init__(self, channels, layers, make_cell, classes=10, colours=3, auxiliary=False):
    super().__init__()
    before = previous = 3 * channels
    conv = nn.Conv2d(colours, previous, 3, padding=1, bias=False)
    self.stem = nn.Sequential(conv, nn.BatchNorm2d(previous))
    self.cells, self.tap, c, reduced, widths = nn.ModuleList(), 2 * layers // 3, channels, False, []
    for i in range(layers):
      reduces = i in (layers // 3, 2 * layers // 3)
      c *= 1 + reduces
      cell = make_cell(before, previous, c, reduces, reduced)
      before, previous, reduced = previous, len(cell.concat) * c, reduces
      self.cells.append(cell)
      widths.append(previous)
    self.auxiliary = auxiliary_head(widths[self.tap], classes) if auxiliary else None
    self.classifier = nn.Linear(previous, classes)

  def forward(self, x, settings):
    """Logits and auxiliary logits (or None); `settings` are of normal and of reduction cells."""
    s0, s1, extra = *[self.stem(x)] * 2, None
    for i, cell in enumerate(self.cells):
      s0, s1 = s1, cell(s0, s1, settings[cell.reduces])
      if self.auxiliary is not None and self.training and i == self.tap:
        extra = self.auxiliary(s1)
    return self.classifier(s1.mean((2, 3))), extra


def supernet(channels, layers, nodes, names=OPERATIONS, lean=False, **sizes):
  """The network of all operations and its alphas (normal, reduction), no parameters of it."""
  make_cell = functools.partial(MixedCell, nodes=nodes, names=names, lean=lean)
  net = Network(channels, layers, make_cell, **sizes)
  shape = sum(range(2, 2 + nodes)), len(names)
  return net, [(1e-3 * torch.randn(shape)).requires_grad_() for _ in range(2)]


def evaluation_network(name, channels, layers, **sizes):
  return fixed_network(json.loads(ZOO.read_text('utf-8'))[name], channels, layers, **sizes)


def fixed_network(genotype, channels, layers, **sizes):
  """As `evaluation_network`, of a genotype as its JSON form holds it."""
  return Network(channels, layers, functools.partial(FixedCell, genotype=genotype), **sizes)
