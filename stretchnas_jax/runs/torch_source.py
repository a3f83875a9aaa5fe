"""The text of a PyTorch program with the network of a training."""

import pprint
from typing import Any

from stretchnas_jax.runs import outputs

_HEAD = '''"""{title}

The network of a training by stretchnas_jax, for PyTorch alone. Its weights stand beside this file:

    network = load()
    logits = network(images)  # [B, {channels}, {height}, {width}]: uint8, or numbers from 0 to 1
"""

import json
import pathlib
import struct

import torch
from torch import nn
from torch.nn import functional as F

'''

_BODY = '''

def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-5)


class ReluConvNorm(nn.Module):
    """ReLU, 1x1 convolution, batch norm."""

    def __init__(self, inputs, channels):
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, 1, bias=False)
        self.norm = norm(channels)

    def forward(self, x):
        return self.norm(self.conv(F.relu(x)))


class FactorizedReduce(nn.Module):
    """Two 1x1 convolutions, on the even and on the odd pixels, side by side."""

    def __init__(self, inputs, channels):
        super().__init__()
        self.even = nn.Conv2d(inputs, channels // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, channels - channels // 2, 1, bias=False)
        self.norm = norm(channels)

    def forward(self, x):
        x = F.relu(x)
        padded = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        even, odd = self.even(x[:, :, ::2, ::2]), self.odd(padded[:, :, 1::2, 1::2])
        return self.norm(torch.cat([even, odd], 1))


class Separable(nn.Module):
    """ReLU, depthwise convolution, 1x1 convolution, batch norm."""

    def __init__(self, channels, size, stride=1, dilation=1):
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, size, stride, dilation * (size - 1) // 2, dilation, channels, False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = norm(channels)

    def forward(self, x):
        return self.norm(self.pointwise(self.depthwise(F.relu(x))))


class SepConv(nn.Module):
    """Two separable convolutions in a row."""

    def __init__(self, channels, size, stride):
        super().__init__()
        self.first = Separable(channels, size, stride)
        self.second = Separable(channels, size)

    def forward(self, x):
        return self.second(self.first(x))


class RowColumnConv(nn.Module):
    """ReLU, 1x7 convolution, 7x1 convolution, batch norm."""

    def __init__(self, channels, stride):
        super().__init__()
        self.row = nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False)
        self.column = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
        self.norm = norm(channels)

    def forward(self, x):
        return self.norm(self.column(self.row(F.relu(x))))


def skip(channels, stride):
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


OPERATIONS = {
    'max_pool_3x3': lambda c, stride: nn.MaxPool2d(3, stride, 1),
    'avg_pool_3x3': lambda c, stride: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    'skip_connect': skip,
    'sep_conv_3x3': lambda c, stride: SepConv(c, 3, stride),
    'sep_conv_5x5': lambda c, stride: SepConv(c, 5, stride),
    'sep_conv_7x7': lambda c, stride: SepConv(c, 7, stride),
    'dil_conv_3x3': lambda c, stride: Separable(c, 3, stride, 2),
    'dil_conv_5x5': lambda c, stride: Separable(c, 5, stride, 2),
    'conv_7x1_1x7': RowColumnConv,
}


class Cell(nn.Module):
    """One cell; its edges are (operation, source, destination)."""

    def __init__(self, edges, concat, inputs, channels, reduction, after_reduction):
        super().__init__()
        self.ends, self.concat = [edge[1:] for edge in edges], concat
        enter_first = FactorizedReduce if after_reduction else ReluConvNorm
        self.enter_0 = enter_first(inputs[0], channels)
        self.enter_1 = ReluConvNorm(inputs[1], channels)
        self.edges = nn.ModuleList(
            OPERATIONS[name](channels, 2 if reduction and source < 2 else 1)
            for name, source, _ in edges
        )

    def forward(self, s0, s1):
        nodes = {0: self.enter_0(s0), 1: self.enter_1(s1)}
        for operation, (source, destination) in zip(self.edges, self.ends):
            value = operation(nodes[source])
            nodes[destination] = nodes[destination] + value if destination in nodes else value
        return torch.cat([nodes[node] for node in self.concat], 1)


class CifarStem(nn.Module):
    """A 3x3 convolution; both inputs of the first cell."""

    def __init__(self, images, channels):
        super().__init__()
        self.conv = nn.Conv2d(images, 3 * channels, 3, 1, 1, bias=False)
        self.norm = norm(3 * channels)
        self.widths = [3 * channels, 3 * channels]

    def forward(self, x):
        x = self.norm(self.conv(x))
        return x, x


class ImageNetStem(nn.Module):
    """Three 3x3 convolutions of stride 2."""

    def __init__(self, images, channels):
        super().__init__()
        widths = [images, channels // 2, channels, channels]
        for i in range(3):
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, 2, 1, bias=False)
            self.add_module(f'conv_{i}', conv)
            self.add_module(f'norm_{i}', norm(widths[i + 1]))
        self.widths = [channels, channels]

    def forward(self, x):
        x = F.relu(self.norm_0(self.conv_0(x)))
        s0 = self.norm_1(self.conv_1(x))
        return s0, self.norm_2(self.conv_2(F.relu(s0)))


class Network(nn.Module):
    """Stem, cells, global mean, classifier; it normalises the images itself."""

    def __init__(self):
        super().__init__()
        shape = (1, len(MEAN), 1, 1)
        self.register_buffer('mean', torch.tensor(MEAN).reshape(shape), persistent=False)
        self.register_buffer('std', torch.tensor(STD).reshape(shape), persistent=False)
        self.stem = (CifarStem if STEM == 'cifar' else ImageNetStem)(len(MEAN), CHANNELS)
        widths, channels, after_reduction = self.stem.widths, CHANNELS, STEM == 'imagenet'
        self.cells = nn.ModuleList()
        for layer in range(LAYERS):
            reduction = layer in (LAYERS // 3, 2 * LAYERS // 3)
            channels *= 2 if reduction else 1
            edges, concat = (REDUCE, REDUCE_CONCAT) if reduction else (NORMAL, NORMAL_CONCAT)
            self.cells.append(Cell(edges, concat, widths, channels, reduction, after_reduction))
            widths, after_reduction = [widths[1], channels * len(concat)], reduction
        self.classifier = nn.Linear(widths[1], len(CLASS_NAMES))

    def forward(self, images):
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        s0, s1 = self.stem((x - self.mean) / self.std)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        return self.classifier(s1.mean((2, 3)))


def read_weights(path):
    """Reads a file of safetensors with 32-bit floats."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack('<Q', data[:8])
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    header.pop('__metadata__', None)
    return {
        name: torch.frombuffer(
            body, dtype=torch.float32, offset=about['data_offsets'][0],
            count=(about['data_offsets'][1] - about['data_offsets'][0]) // 4,
        ).reshape(about['shape'])
        for name, about in header.items()
    }


def load(path=None):
    """Returns the trained network, ready to predict."""
    network = Network()
    found = read_weights(path or pathlib.Path(__file__).with_suffix('.safetensors'))
    missing, unexpected = network.load_state_dict(found, strict=False)
    counters = [name for name in missing if name.endswith('num_batches_tracked')]
    assert len(counters) == len(missing) and not unexpected, (missing, unexpected)
    return network.eval()
'''


def source(facts: dict[str, Any], image_shape: tuple[int, int, int]) -> str:
  """Returns the program.

  Args:
    facts: the values of its constants by their names, plain numbers, texts and lists.
    image_shape: `(H, W, C)`.
  """
  height, width, channels = image_shape
  head = _HEAD.format(
    title=f'A network of {facts["LAYERS"]} cells for {len(facts["CLASS_NAMES"])} classes.',
    height=height,
    width=width,
    channels=channels,
  )
  lines = [f'{name} = {_literal(value)}' for name, value in facts.items()]
  return head + '\n'.join(lines) + _BODY + f'\n# {outputs.MARK}\n'


def _literal(value: Any) -> str:
  """Returns a value as Python writes it, in plain ASCII."""
  text = pprint.pformat(value, width=96, sort_dicts=False)
  return text.encode('ascii', 'backslashreplace').decode()
