"""DARTS' networks in PyTorch, for `torch_darts`: of all operations, and of a genotype."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.benchmarks.torch_operations import OPERATIONS, Halve, operation, relu_convs_bn

# The zoo is read as a file: importing the package would import JAX, whose memory would count.
_ZOO = pathlib.Path(__file__).parents[2] / 'stretchnas_jax' / 'cells' / 'zoo.json'


def _add(terms: Iterable[Tensor]) -> Tensor:
  return functools.reduce(torch.add, terms)


def _shuffled(x: Tensor, groups: int) -> Tensor:
  """Returns the channels in PC-DARTS' order; with one group, as they are."""
  if groups == 1:
    return x
  batch, channels, *side = x.shape
  return x.view(batch, groups, channels // groups, *side).transpose(1, 2).reshape(x.shape)


# ---- cells ---------------------------------------------------------------------------------------


class _Cell(nn.Module):
  """The common part of both kinds of cells: two previous outputs are brought to c channels."""

  def __init__(
    self,
    c_before: int,
    c_previous: int,
    c: int,
    reduces: bool,
    after_reduction: bool,
    *,
    affine: bool,
  ) -> None:
    super().__init__()
    self.reduces = reduces
    if after_reduction:
      self.enter0 = Halve(c_before, c, affine)
    else:
      self.enter0 = nn.Sequential(*relu_convs_bn((c_before, c, 1, {}), affine=affine))
    self.enter1 = nn.Sequential(*relu_convs_bn((c_previous, c, 1, {}), affine=affine))

  def forward(self, s0: Tensor, s1: Tensor, setting: Any) -> Tensor:
    """Returns the concatenated nodes.

    Args:
      s0: the output of the cell before the previous one.
      s1: the output of the previous cell.
      setting: see the kind of cell.
    """
    states = [self.enter0(s0), self.enter1(s1)]
    self.add_nodes(states, setting)
    return torch.cat([states[i] for i in self.concat], 1)

  def stride_from(self, source: int) -> int:
    """Returns the stride of the edges from a node."""
    return 2 if self.reduces and source < 2 else 1


class _MixedCell(_Cell):
  """Every operation on every edge; the setting holds the weights, a list of scalars an edge.

  With partial channels, as in PC-DARTS, a further scalar of each edge is its score.
  """

  def __init__(
    self, *where: Any, nodes: int, names: Sequence[str], lean: bool, partial: int = 1
  ) -> None:
    super().__init__(*where, affine=False)
    c, self.nodes, self.concat = where[2] // partial, nodes, range(2, 2 + nodes)
    self.lean, self.partial = lean, partial
    self.live = [k for k, name in enumerate(names) if not (lean and name == 'none')]
    self.edges = nn.ModuleList(
      nn.ModuleList(operation(name, c, self.stride_from(source), False, True) for name in names)
      for node in range(nodes)
      for source in range(2 + node)
    )

  def add_nodes(self, states: list[Tensor], setting: Iterable[Sequence[Tensor]]) -> None:
    """Appends the nodes to the states.

    Args:
      states: the inputs of the cell.
      setting: the weights of each edge.
    """
    edges = iter(zip(self.edges, setting))
    mixture = self._mixture if self.partial == 1 else self._partial_mixture
    for _ in range(self.nodes):
      node = _add(mixture(i, state, *next(edges)) for i, state in enumerate(tuple(states)))
      # The published code shuffles the channels on each edge. Once for each node is the same.
      states.append(_shuffled(node, self.partial) if self.lean else node)

  def _mixture(
    self, source: int, x: Tensor, ops: nn.ModuleList, weights: Sequence[Tensor]
  ) -> Tensor:
    return _add(weights[k] * ops[k](x) for k in self.live)

  def _partial_mixture(
    self, source: int, x: Tensor, ops: nn.ModuleList, weights: Sequence[Tensor]
  ) -> Tensor:
    seen = x.shape[1] // self.partial
    y, rest = self._mixture(source, x[:, :seen], ops, weights), x[:, seen:]
    if self.stride_from(source) == 2:
      rest = F.max_pool2d(rest, 2)
    y = torch.cat((y, rest), 1)
    return weights[-1] * (y if self.lean else _shuffled(y, self.partial))


class _FixedCell(_Cell):
  """The cell of a genotype; the setting is the probability of drop path."""

  def __init__(self, *where: Any, genotype: dict[str, Any]) -> None:
    super().__init__(*where, affine=True)
    kind = 'reduce' if self.reduces else 'normal'
    edges, self.concat = genotype[kind], genotype[f'{kind}_concat']
    nodes = sorted({destination for _, _, destination in edges})
    self.sources = [[source for _, source, to in edges if to == node] for node in nodes]
    self.ops = nn.ModuleList(
      nn.ModuleList(
        operation(name, where[2], self.stride_from(source), True)
        for name, source, to in edges
        if to == node
      )
      for node in nodes
    )

  def add_nodes(self, states: list[Tensor], setting: float) -> None:
    """Appends the nodes to the states.

    Args:
      states: the inputs of the cell.
      setting: the probability of drop path.
    """
    for ops, sources in zip(self.ops, self.sources):
      states.append(_add(self._edge(op, states[i], setting) for op, i in zip(ops, sources)))

  def _edge(self, op: nn.Module, x: Tensor, drop: float) -> Tensor:
    h = op(x)
    if drop == 0 or not self.training or isinstance(op, nn.Identity):
      return h
    return h * (h.new_empty(len(h), 1, 1, 1).bernoulli_(1 - drop) / (1 - drop))


# ---- networks ------------------------------------------------------------------------------------


def _auxiliary_head(channels: int, classes: int) -> nn.Module:
  """Returns the auxiliary head of networks for CIFAR."""
  return nn.Sequential(
    nn.ReLU(), nn.AvgPool2d(5, 3, 0, count_include_pad=False),
    nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
    nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU(),
    nn.Flatten(), nn.Linear(768, classes),
  )  # fmt: skip


class Network(nn.Module):
  """Stem, cells (half the size, twice the channels at 1/3 and 2/3), global mean, classifier."""

  def __init__(
    self,
    channels: int,
    layers: int,
    make_cell: Callable[..., nn.Module],
    classes: int = 10,
    colours: int = 3,
    auxiliary: bool = False,
  ) -> None:
    """Makes the layers.

    Args:
      channels: C of the first cell.
      layers: the number of cells.
      make_cell: a kind of cell, with its own arguments.
      classes: of images.
      colours: channels of an image.
      auxiliary: True for an auxiliary head.
    """
    super().__init__()
    before = previous = 3 * channels
    conv = nn.Conv2d(colours, previous, 3, padding=1, bias=False)
    self.stem = nn.Sequential(conv, nn.BatchNorm2d(previous))
    self.cells = nn.ModuleList()
    self.tap = 2 * layers // 3
    c, reduced, widths = channels, False, []
    for i in range(layers):
      reduces = i in (layers // 3, 2 * layers // 3)
      c *= 1 + reduces
      cell = make_cell(before, previous, c, reduces, reduced)
      before, previous, reduced = previous, len(cell.concat) * c, reduces
      self.cells.append(cell)
      widths.append(previous)
    self.auxiliary = _auxiliary_head(widths[self.tap], classes) if auxiliary else None
    self.classifier = nn.Linear(previous, classes)

  def forward(self, x: Tensor, settings: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """Returns the logits, and in training those of the auxiliary head, if there is one.

    Args:
      x: images `[B, C, H, W]`.
      settings: of normal and of reduction cells.
    """
    s0 = s1 = self.stem(x)
    extra = None
    for i, cell in enumerate(self.cells):
      s0, s1 = s1, cell(s0, s1, settings[cell.reduces])
      if self.auxiliary is not None and self.training and i == self.tap:
        extra = self.auxiliary(s1)
    return self.classifier(s1.mean((2, 3))), extra


def supernet(
  channels: int,
  layers: int,
  nodes: int,
  names: Sequence[str] = OPERATIONS,
  lean: bool = False,
  partial: int = 1,
  **sizes: Any,
) -> tuple[Network, list[Tensor]]:
  """Returns the network of all operations, and its alphas, which are no parameters of it.

  Args:
    channels: C of the first cell.
    layers: the number of cells.
    nodes: intermediate nodes of a cell.
    names: of the operations.
    lean: True leaves out the operation `none`.
    partial: K of PC-DARTS; operations see one in K channels.
    **sizes: further arguments of `Network`.

  Returns:
    The network, and alpha `[E, O]` of normal and of reduction cells; with partial channels then
    beta `[E]` of both.
  """
  make_cell = functools.partial(_MixedCell, nodes=nodes, names=names, lean=lean, partial=partial)
  net = Network(channels, layers, make_cell, **sizes)
  shape = sum(range(2, 2 + nodes)), len(names)
  shapes = [shape] * 2 + [shape[:1]] * 2 * (partial > 1)
  return net, [(1e-3 * torch.randn(shape)).requires_grad_() for shape in shapes]


def evaluation_network(name: str, channels: int, layers: int, **sizes: Any) -> Network:
  """Returns the network of a cell of the zoo.

  Args:
    name: of the cell.
    channels: C of the first cell.
    layers: the number of cells.
    **sizes: further arguments of `Network`.
  """
  return fixed_network(json.loads(_ZOO.read_text('utf-8'))[name], channels, layers, **sizes)


def fixed_network(genotype: dict[str, Any], channels: int, layers: int, **sizes: Any) -> Network:
  """Returns the network of a genotype.

  Args:
    genotype: its JSON form.
    channels: C of the first cell.
    layers: the number of cells.
    **sizes: further arguments of `Network`.
  """
  make_cell = functools.partial(_FixedCell, genotype=genotype)
  return Network(channels, layers, make_cell, **sizes)
