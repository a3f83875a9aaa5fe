"""A trained network as ONNX: written from its cells, with batch norms folded into convolutions."""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.networks.layer_plan import Layer, plan_layers
from stretchnas_jax.networks.layers import EPSILON

OPSET = 17
_IR = 8
_LAST = 2**31 - 1

_Arrays = Mapping[str, Float[np.ndarray, '...']]


class Writer:
  """Collects the nodes of a graph; feature maps are `[B, C, H, W]`.

  Attributes:
    onnx: the package.
    nodes: in the order of their computation.
    constants: weights and other arrays.
  """

  def __init__(self, arrays: _Arrays) -> None:
    """Takes the arrays of a network.

    Args:
      arrays: by their paths, see `export_forms.flat`.
    """
    self.onnx: Any = importlib.import_module('onnx')
    self._arrays = arrays
    self.nodes: list[Any] = []
    self.constants: list[Any] = []

  def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
    """Adds a node; returns the name of its output."""
    name = f'{kind.lower()}_{len(self.nodes)}'
    node = self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes)
    self.nodes.append(node)
    return name

  def constant(self, array: np.ndarray) -> str:
    """Adds an array; returns its name."""
    name = f'constant_{len(self.constants)}'
    made = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
    self.constants.append(made)
    return name

  def array(self, path: str) -> Float[np.ndarray, '...']:
    """Returns an array of the network."""
    return self._arrays[path]

  def conv(
    self,
    x: str,
    path: str,
    strides: tuple[int, int] = (1, 1),
    dilation: int = 1,
    norm: str | None = None,
    part: slice = slice(None),
  ) -> str:
    """Adds a convolution, and the batch norm that follows it.

    Args:
      x: its input.
      path: of its kernel.
      strides: down and across.
      dilation: the distance of the kernel's pixels.
      norm: the path of the batch norm, or None.
      part: the channels of the batch norm that belong to this convolution.
    """
    kernel = self.array(f'{path}/kernel').transpose(3, 2, 0, 1)
    sizes, weights = kernel.shape[2:], [kernel]
    depthwise = path.endswith('depthwise')
    if norm is not None:
      scale, bias, mean, var = (self.array(f'{norm}/{name}')[part].astype(np.float64)
                                for name in ('scale', 'bias', 'mean', 'var'))  # fmt: skip
      factor = scale / np.sqrt(var + EPSILON)
      weights = [kernel * factor[:, None, None, None], bias - mean * factor]
    padding = [dilation * (size - 1) // 2 for size in sizes]
    return self.op(
      'Conv',
      [x, *(self.constant(array.astype(np.float32)) for array in weights)],
      kernel_shape=list(sizes),
      strides=list(strides),
      pads=padding * 2,
      dilations=[dilation, dilation],
      group=kernel.shape[0] if depthwise else 1,
    )


def model(
  genotype: Genotype,
  arrays: _Arrays,
  shape: Mapping[str, Any],
  image_shape: tuple[int, ...],
  mean: Float[np.ndarray, ' C'],
  std: Float[np.ndarray, ' C'],
  about: Mapping[str, str],
) -> bytes:
  """Returns an ONNX file: uint8 images `[batch, H, W, C]` to logits `[batch, M]`.

  Args:
    genotype: the cells.
    arrays: see `export_forms.flat`.
    shape: 'channels', 'num_layers' and 'stem' of the network.
    image_shape: `(H, W, C)`.
    mean: of the training images, from 0 to 1.
    std: likewise.
    about: texts that the file carries.
  """
  writer = Writer(arrays)
  onnx, size = writer.onnx, image_shape[:2]
  scaled = writer.op('Cast', ['images'], to=onnx.TensorProto.FLOAT)
  scaled = writer.op('Mul', [scaled, writer.constant(np.float32(1 / (255 * np.float64(std))))])
  scaled = writer.op('Add', [scaled, writer.constant(np.float32(-np.float64(mean) / std))])
  x = writer.op('Transpose', [scaled], perm=[0, 3, 1, 2])
  s0, s1, sizes = _stem(writer, x, str(shape['stem']), size)
  layers = plan_layers(shape['channels'], shape['num_layers'], str(shape['stem']))
  for i, layer in enumerate(layers):
    y, after = _cell(writer, genotype, layer, f'cell_{i}', (s0, s1), sizes)
    s0, s1, sizes = s1, y, (sizes[1], after)
  features = writer.op('Flatten', [writer.op('GlobalAveragePool', [s1])])
  kernel, bias = (writer.constant(arrays[f'classifier/{name}']) for name in ('kernel', 'bias'))
  writer.nodes.append(onnx.helper.make_node('Gemm', [features, kernel, bias], ['logits']))
  classes = len(arrays['classifier/bias'])
  graph = onnx.helper.make_graph(
    writer.nodes,
    'network',
    [onnx.helper.make_tensor_value_info('images', onnx.TensorProto.UINT8, ['batch', *image_shape])],
    [onnx.helper.make_tensor_value_info('logits', onnx.TensorProto.FLOAT, ['batch', classes])],
    writer.constants,
  )
  made = onnx.helper.make_model(
    graph, opset_imports=[onnx.helper.make_opsetid('', OPSET)], ir_version=_IR
  )
  onnx.helper.set_model_props(made, dict(about))
  onnx.checker.check_model(made)
  return made.SerializeToString()


def logits(content: bytes, images: UInt8[np.ndarray, 'B H W C']) -> Float[np.ndarray, 'B M'] | None:
  """Returns the logits of an ONNX file; None where onnxruntime is not installed.

  Args:
    content: the file.
    images: a batch.
  """
  if importlib.util.find_spec('onnxruntime') is None:
    return None
  runtime: Any = importlib.import_module('onnxruntime')
  session = runtime.InferenceSession(content, providers=['CPUExecutionProvider'])
  return session.run(['logits'], {'images': images})[0]


_Size = tuple[int, ...]  # height and width


def _half(size: _Size) -> _Size:
  return tuple(-(-side // 2) for side in size)


def _stem(w: Writer, x: str, stem: str, size: _Size) -> tuple[str, str, tuple[_Size, _Size]]:
  """Adds the stem; returns both inputs of the first cell with their sizes."""
  if stem == 'cifar':
    x = w.conv(x, 'stem/conv', norm='stem/norm')
    return x, x, (size, size)
  x = w.op('Relu', [w.conv(x, 'stem/conv_0', (2, 2), norm='stem/norm_0')])
  s0 = w.conv(x, 'stem/conv_1', (2, 2), norm='stem/norm_1')
  s1 = w.conv(w.op('Relu', [s0]), 'stem/conv_2', (2, 2), norm='stem/norm_2')
  quarter = _half(_half(size))
  return s0, s1, (quarter, _half(quarter))


def _cell(
  w: Writer,
  genotype: Genotype,
  layer: Layer,
  path: str,
  inputs: tuple[str, str],
  sizes: tuple[_Size, _Size],
) -> tuple[str, _Size]:
  """Adds a cell; returns its output and the size of it."""
  edges, concat = (
    (genotype.reduce, genotype.reduce_concat)
    if layer.reduction
    else (genotype.normal, genotype.normal_concat)
  )
  if layer.after_reduction:
    first = _factorized(w, inputs[0], f'{path}/enter_0', sizes[0])
  else:
    first = _relu_conv(w, inputs[0], f'{path}/enter_0')
  nodes, size = {0: first, 1: _relu_conv(w, inputs[1], f'{path}/enter_1')}, sizes[1]
  for i, (op, src, dst) in enumerate(edges):
    stride = 2 if layer.reduction and src < 2 else 1
    value = _operation(w, op, nodes[src], f'{path}/edge_{i}', stride, size)
    nodes[dst] = w.op('Add', [nodes[dst], value]) if dst in nodes else value
  output = w.op('Concat', [nodes[node] for node in concat], axis=1)
  return output, _half(size) if layer.reduction else size


def _operation(w: Writer, op: str, x: str, path: str, stride: int, size: _Size) -> str:
  """Adds an operation of an edge."""
  kind, _, kernel = op.partition('_conv_')
  if op == 'skip_connect':
    return x if stride == 1 else _factorized(w, x, path, size)
  if op in ('max_pool_3x3', 'avg_pool_3x3'):
    given: dict[str, Any] = {'kernel_shape': [3, 3], 'strides': [stride] * 2, 'pads': [1] * 4}
    if op == 'max_pool_3x3':
      return w.op('MaxPool', [x], **given)
    return w.op('AveragePool', [x], count_include_pad=0, **given)
  if kind == 'sep' and kernel:
    first = _separable(w, x, f'{path}/first', stride)
    return _separable(w, first, f'{path}/second', 1)
  if kind == 'dil' and kernel:
    return _separable(w, x, path, stride, dilation=2)
  row = w.conv(w.op('Relu', [x]), f'{path}/row', (1, stride))
  return w.conv(row, f'{path}/column', (stride, 1), norm=f'{path}/norm')


def _relu_conv(w: Writer, x: str, path: str) -> str:
  return w.conv(w.op('Relu', [x]), f'{path}/conv', norm=f'{path}/norm')


def _separable(w: Writer, x: str, path: str, stride: int, dilation: int = 1) -> str:
  depthwise = w.conv(w.op('Relu', [x]), f'{path}/depthwise', (stride, stride), dilation)
  return w.conv(depthwise, f'{path}/pointwise', norm=f'{path}/norm')


def _factorized(w: Writer, x: str, path: str, size: _Size) -> str:
  """Adds two convolutions on the even and on the odd pixels; an odd side gets a row of zeros."""
  x = w.op('Relu', [x])
  pads = np.array([0, 0, 0, 0, 0, 0, size[0] % 2, size[1] % 2], np.int64)
  padded = w.op('Pad', [x, w.constant(pads)]) if pads.any() else x
  half = w.array(f'{path}/even/kernel').shape[-1]
  parts = []
  for name, source, start, part in (
    ('even', x, 0, slice(None, half)), ('odd', padded, 1, slice(half, None)),
  ):  # fmt: skip
    numbers = [[start] * 2, [_LAST] * 2, [2, 3], [2, 2]]
    cut = w.op('Slice', [source, *(w.constant(np.array(n, np.int64)) for n in numbers)])
    parts.append(w.conv(cut, f'{path}/{name}', norm=f'{path}/norm', part=part))
  return w.op('Concat', parts, axis=1)
