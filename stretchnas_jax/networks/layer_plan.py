"""The cells of a network, layer by layer."""

from typing import NamedTuple

from stretchnas_jax.cells.space import reduction_layers


class Layer(NamedTuple):
  """The properties of one cell that follow from its place in the network.

  Attributes:
    channels: C of every node.
    reduction: whether the edges from the cell's two inputs have stride 2.
    after_reduction: whether the first input is twice as large as the second: the cell before the
      previous one came before a reduction.
  """

  channels: int
  reduction: bool
  after_reduction: bool


def plan_layers(channels: int, num_layers: int, stem: str) -> list[Layer]:
  """Returns the layers of a network; C doubles in the reduction cells.

  Args:
    channels: C of the first cells.
    num_layers: the number of cells.
    stem: 'cifar' or 'imagenet'.
  """
  layers = []
  # The ImageNet stem halves between its two outputs, the inputs of the first cell.
  after_reduction = stem == 'imagenet'
  for layer in range(num_layers):
    reduction = layer in reduction_layers(num_layers)
    channels *= 2 if reduction else 1
    layers.append(Layer(channels, reduction, after_reduction))
    after_reduction = reduction
  return layers
