"""Repeats our training steps in PyTorch, for `experiments.agreement`; prints one JSON line.

    python -m experiments.benchmarks.torch_replay steps.npz ...

Each file holds the arrays of `experiments.exact` of one seed.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.benchmarks import torch_darts as darts
from experiments.benchmarks import torch_networks as networks
from experiments.benchmarks.torch_train import set_rate, tensor

# ---- the same weights ----------------------------------------------------------------------------

_INSIDE = {
  0: (),
  2: ('conv', 'norm'),
  3: ('depthwise', 'pointwise', 'norm'),
  5: ('conv_0', 'norm_0', 'conv_1', 'norm_1', 'classifier'),
  6: (
    'first/depthwise', 'first/pointwise', 'first/norm',
    'second/depthwise', 'second/pointwise', 'second/norm',
  ),
}  # fmt: skip


def _inside(part: nn.Module) -> Iterator[tuple[str, nn.Module]]:
  """Yields names and layers of the layers with weights in a part of the network."""
  layers = [layer for layer in part.children() if list(layer.parameters())]
  names = ('even', 'odd', 'norm') if isinstance(part, networks.Halve) else _INSIDE[len(layers)]
  yield from zip(names, layers)


def _layers_of(net: networks.Network) -> dict[str, nn.Module]:
  """Returns all layers with weights, by their names in the package."""
  parts = {'stem': net.stem}
  for i, cell in enumerate(net.cells):
    edges = [op for ops in cell.ops for op in ops]  # by destination, as in the package
    named = {'enter_0': cell.enter0, 'enter_1': cell.enter1}
    named |= {f'edge_{k}': op for k, op in enumerate(edges)}
    parts |= {f'cell_{i}/{name}': part for name, part in named.items()}
  if net.auxiliary is not None:
    parts['auxiliary_head'] = net.auxiliary
  found = {
    f'{name}/{inner}': layer for name, part in parts.items() for inner, layer in _inside(part)
  }
  return {**found, 'classifier': net.classifier}


def tensors_of(net: networks.Network) -> dict[str, Tensor]:
  """Returns all weights and running averages, by their names in the package."""
  found = {}
  for name, layer in _layers_of(net).items():
    if isinstance(layer, nn.BatchNorm2d):
      leaves = {'scale': layer.weight, 'mean': layer.running_mean, 'var': layer.running_var}
    else:
      leaves = {'kernel': layer.weight}
    if layer.bias is not None:
      leaves['bias'] = layer.bias
    found |= {f'{name}/{leaf}': value.data for leaf, value in leaves.items()}
  return found


def _in_order_of_pytorch(array: np.ndarray) -> np.ndarray:
  """Returns a kernel HWIO as OIHW, and a linear map IO as OI."""
  return np.transpose(array, {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim))


def under(arrays: Mapping[str, np.ndarray], folder: str) -> dict[str, np.ndarray]:
  """Returns the arrays whose names begin with `folder/`, in PyTorch's order of axes.

  Args:
    arrays: by name.
    folder: the beginning of the names, which is removed.
  """
  prefix = f'{folder}/'
  return {
    name.removeprefix(prefix): _in_order_of_pytorch(array)
    for name, array in arrays.items()
    if name.startswith(prefix)
  }


def load(net: networks.Network, values: Mapping[str, np.ndarray]) -> None:
  """Puts the package's values into a network.

  Args:
    net: the network.
    values: weights and running averages by name.

  Raises:
    ValueError: a tensor has no value, or a value has no tensor.
  """
  places = tensors_of(net)
  if places.keys() != values.keys():
    raise ValueError(f'the networks differ in {sorted(places.keys() ^ values.keys())}')
  for name, place in places.items():
    place.copy_(torch.from_numpy(values[name].copy()))


# ---- the same steps ------------------------------------------------------------------------------


def _watch_counts(net: networks.Network) -> dict[str, int]:
  """Returns a dict that fills as the network runs.

  It holds, for each batch norm, the number of values of a channel in its last input.
  """
  counts: dict[str, int] = {}

  def watch(name: str, layer: nn.Module) -> None:
    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
      counts[name] = inputs[0][:, 0].numel()

    layer.register_forward_hook(note)

  for name, layer in _layers_of(net).items():
    if isinstance(layer, nn.BatchNorm2d):
      watch(name, layer)
  return counts


def _biased(var: np.ndarray, count: int, steps: int) -> np.ndarray:
  """Returns a running variance as if the variances of the batches had been biased.

  Args:
    var: after the steps, from 1 on.
    count: the number of values of a channel in a batch.
    steps: the number of steps.
  """
  return 0.9**steps + (var - 0.9**steps) * (count - 1) / count


def run(arrays: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
  """Makes our steps from our start.

  Args:
    arrays: the result of `experiments.exact.steps` for one seed.
    dtype: of all arithmetic.

  Returns:
    The same figures as in `arrays`, and all weights and running averages under `first` and `end`.
  """
  net = network(arrays).to(dtype)
  load(net, under(arrays, 'start'))
  images = [tensor(batch).to(dtype) for batch in arrays['images']]
  labels = torch.from_numpy(arrays['labels'].astype(np.int64))
  counts, found = _watch_counts(net), _train(net, images, labels)
  for name, count in counts.items():
    found['end'][f'{name}/var'] = _biased(found['end'][f'{name}/var'], count, len(images))
  load(net, under(arrays, 'end'))
  with torch.no_grad():
    found['evaluation_logits'] = net.eval()(images[0], (0.0, 0.0))[0].numpy()
  return found


def _train(net: networks.Network, images: list[Tensor], labels: Tensor) -> dict[str, Any]:
  """Makes a step with each batch, and returns the figures of `run` without the evaluation."""
  found: dict[str, Any] = {'loss': []}
  weights = list(net.train().parameters())
  optimizer = darts.sgd(weights)
  for step, batch in enumerate(images):
    logits, extra = net(batch, (0.0, 0.0))
    loss = total = F.cross_entropy(logits, labels[step])
    if extra is not None:
      total = loss + 0.4 * F.cross_entropy(extra, labels[step])
    if step == 0:
      found['logits'] = logits.detach().numpy()
      if extra is not None:
        found['auxiliary_logits'] = extra.detach().numpy()
    found['loss'].append(loss.item())
    set_rate(optimizer, step, len(images))
    darts.update(weights, optimizer, total)
    if step == 0:
      found['first'] = _copies(net)
  found['end'] = _copies(net)
  return found


def _copies(net: networks.Network) -> dict[str, np.ndarray]:
  """Returns copies of all weights and running averages."""
  return {name: value.numpy().copy() for name, value in tensors_of(net).items()}


def network(arrays: Mapping[str, Any]) -> networks.Network:
  """Returns the network that the arrays of `experiments.exact` belong to."""
  return networks.fixed_network(
    json.loads(str(arrays['genotype'])),
    int(arrays['channels']),
    int(arrays['layers']),
    auxiliary=bool(arrays['auxiliary']),
    colours=arrays['images'].shape[-1],
  )


# ---- differences ---------------------------------------------------------------------------------


def _difference(a: Any, b: Any) -> float:
  """Returns the largest difference, relative to the largest number of `a`."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  return float(abs(a - b).max() / abs(a).max())


def _largest(
  a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], leaves: Iterable[str]
) -> float:
  """Returns the difference of the array that differs most, among those with these last names."""
  return max(_difference(a[name], b[name]) for name in a if name.rsplit('/', 1)[1] in leaves)


def _distance(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
  """Returns the distance of all weights together."""
  names = [name for name in a if not name.endswith(('mean', 'var'))]
  squares = [((a[name].astype(np.float64) - b[name]) ** 2).sum() for name in names]
  return math.sqrt(sum(squares))


def differences(
  a: Mapping[str, Any], b: Mapping[str, Any], start: Mapping[str, np.ndarray]
) -> dict[str, float]:
  """Returns relative differences of two runs of the same steps.

  Args:
    a: the result of `run`.
    b: the result of another `run`.
    start: the weights from which both began.

  Returns:
    Differences of the logits of the first step, of the losses of all steps, and of weights and
    running averages after them (each the largest of any array). `first_movement` and `movement`
    are those of the way of all weights in the first step and in all steps. The evaluation's logits
    are both from the weights of our end.
  """
  names = ('logits', 'auxiliary_logits', 'loss', 'evaluation_logits')
  found = {name: _difference(a[name], b[name]) for name in names if name in a}
  found['first_movement'] = _distance(a['first'], b['first']) / _distance(a['first'], start)
  ends = a['end'], b['end']
  found['weights'] = _largest(*ends, ('kernel', 'scale', 'bias'))
  found['running_means'] = _largest(*ends, ('mean',))
  found['running_variances'] = _largest(*ends, ('var',))
  found['movement'] = _distance(*ends) / _distance(a['end'], start)
  return found


def replay(arrays: Mapping[str, Any]) -> dict[str, dict[str, float]]:
  """Returns the `differences` from PyTorch's float64.

  Args:
    arrays: the result of `experiments.exact.steps` for one seed.

  Returns:
    Those of our steps under `ours`. Where these are float32, those of PyTorch's own float32 under
    `pytorch`.
  """
  exact, start = run(arrays, torch.float64), under(arrays, 'start')
  ours = {**arrays, **{name: under(arrays, name) for name in ('first', 'end')}}
  found = {'ours': differences(ours, exact, start)}
  if arrays['images'].dtype == np.float32:
    found['pytorch'] = differences(run(arrays, torch.float32), exact, start)
  return found


if __name__ == '__main__':
  replays = [replay(dict(np.load(path, allow_pickle=False))) for path in sys.argv[1:]]
  print(json.dumps({'replays': replays, 'torch': torch.__version__}))
