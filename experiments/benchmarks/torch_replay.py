"""Our training steps made again in PyTorch, for `experiments.agreement`; prints one JSON line.

    python -m experiments.benchmarks.torch_replay steps.npz ...

The files hold what `experiments.exact` gives, each of one seed.
"""

import json
import math
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from experiments.benchmarks import torch_darts as darts
from experiments.benchmarks import torch_networks as networks
from experiments.benchmarks.torch_train import set_rate, tensor

# ---- the same weights ----------------------------------------------------------------------------

INSIDE = {
  0: (),
  2: ('conv', 'norm'),
  3: ('depthwise', 'pointwise', 'norm'),
  5: ('conv_0', 'norm_0', 'conv_1', 'norm_1', 'classifier'),
  6: (
    'first/depthwise', 'first/pointwise', 'first/norm',
    'second/depthwise', 'second/pointwise', 'second/norm',
  ),
}  # fmt: skip


def inside(part):
  """(name, layer) of the layers with weights in a part of the network."""
  layers = [layer for layer in part.children() if list(layer.parameters())]
  names = ('even', 'odd', 'norm') if isinstance(part, networks.Halve) else INSIDE[len(layers)]
  return zip(names, layers)


def layers_of(net):
  """(name in the package, layer) of all layers with weights."""
  parts = {'stem': net.stem}
  for i, cell in enumerate(net.cells):
    edges = [op for ops in cell.ops for op in ops]  # by destination, as in the package
    named = {'enter_0': cell.enter0, 'enter_1': cell.enter1}
    named |= {f'edge_{k}': op for k, op in enumerate(edges)}
    parts |= {f'cell_{i}/{name}': part for name, part in named.items()}
  if net.auxiliary is not None:
    parts['auxiliary_head'] = net.auxiliary
  found = {
    f'{name}/{inner}': layer for name, part in parts.items() for inner, layer in inside(part)
  }
  return {**found, 'classifier': net.classifier}


def tensors_of(net):
  """`{name in the package: tensor}` of all weights and running averages."""
  found = {}
  for name, layer in layers_of(net).items():
    if isinstance(layer, nn.BatchNorm2d):
      both = {'scale': layer.weight, 'mean': layer.running_mean, 'var': layer.running_var}
    else:
      both = {'kernel': layer.weight}
    if layer.bias is not None:
      both['bias'] = layer.bias
    found |= {f'{name}/{leaf}': value.data for leaf, value in both.items()}
  return found


def ours_as_theirs(array):
  """Kernels HWIO -> OIHW, linear maps IO -> OI."""
  return np.transpose(array, {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim))


def under(arrays, folder):
  """`{name: array}` of what stands under `folder/`, in PyTorch's order of axes."""
  prefix = f'{folder}/'
  return {
    name.removeprefix(prefix): ours_as_theirs(array)
    for name, array in arrays.items()
    if name.startswith(prefix)
  }


def load(net, values):
  """Puts the package's values in place; there must be one for every tensor, and no other."""
  places = tensors_of(net)
  if places.keys() != values.keys():
    raise ValueError(f'the networks differ in {sorted(places.keys() ^ values.keys())}')
  for name, place in places.items():
    place.copy_(torch.from_numpy(values[name].copy()))


# ---- the same steps ------------------------------------------------------------------------------


def watch_counts(net):
  """`{name: values that each channel of a batch norm was given last}`, filled as `net` runs."""
  counts = {}
  for name, layer in layers_of(net).items():
    if isinstance(layer, nn.BatchNorm2d):
      note = lambda layer, given, _, name=name: counts.update({name: given[0][:, 0].numel()})
      layer.register_forward_hook(note)
  return counts


def biased(var, count, steps):
  """A running variance of so many steps from 1 on, as if the batch's had not been unbiased."""
  return 0.9**steps + (var - 0.9**steps) * (count - 1) / count


def run(arrays, dtype):
  """Our steps from our start, in this precision.

  Args:
    arrays: what `experiments.exact.steps` gives.
    dtype: of PyTorch.

  Returns:
    The same figures as in `arrays`, and under `first` and `end` all weights and running averages.
  """
  net = network(arrays).to(dtype)
  load(net, under(arrays, 'start'))
  images = [tensor(batch).to(dtype) for batch in arrays['images']]
  labels = torch.from_numpy(arrays['labels'].astype(np.int64))
  weights, counts, found = list(net.train().parameters()), watch_counts(net), {'loss': []}
  optimizer, count = darts.sgd(weights), len(images)
  for step in range(count):
    logits, extra = net(images[step], (0.0, 0.0))
    loss = total = F.cross_entropy(logits, labels[step])
    if extra is not None:
      total = loss + 0.4 * F.cross_entropy(extra, labels[step])
    if step == 0:
      first = {'logits': logits, 'auxiliary_logits': extra}
      found |= {name: x.detach().numpy() for name, x in first.items() if x is not None}
    found['loss'].append(loss.item())
    set_rate(optimizer, step, count)
    darts.update(weights, optimizer, total)
    if step == 0:
      found['first'] = copies(net)
  found['end'] = copies(net)
  for name, number in counts.items():
    found['end'][f'{name}/var'] = biased(found['end'][f'{name}/var'], number, count)
  load(net, under(arrays, 'end'))
  with torch.no_grad():
    found['evaluation_logits'] = net.eval()(images[0], (0.0, 0.0))[0].numpy()
  return found


def copies(net):
  return {name: value.numpy().copy() for name, value in tensors_of(net).items()}


def network(arrays):
  return networks.fixed_network(
    json.loads(str(arrays['genotype'])), int(arrays['channels']), int(arrays['layers']),
    auxiliary=bool(arrays['auxiliary']), colours=arrays['images'].shape[-1],
  )  # fmt: skip


# ---- how far apart -------------------------------------------------------------------------------


def difference(a, b):
  """The largest difference, relative to the largest number of `a`."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  return float(abs(a - b).max() / abs(a).max())


def largest(a, b, leaves):
  """The difference of the array that differs most, of those with these last names."""
  return max(difference(a[name], b[name]) for name in a if name.rsplit('/', 1)[1] in leaves)


def distance(a, b):
  """Of all weights."""
  names = [name for name in a if not name.endswith(('mean', 'var'))]
  squares = [((a[name].astype(np.float64) - b[name]) ** 2).sum() for name in names]
  return math.sqrt(sum(squares))


def differences(a, b, start):
  """Relative differences of two runs of the same steps.

  Args:
    a, b: what `run` gives.
    start: the weights from which both began.

  Returns:
    A dict: of the logits of the first step and its auxiliary head, of the losses of all steps, of
    weights and running averages after them (each the largest of any array), of the way that all
    weights together went in the first step and in all, and of the evaluation's logits, which are
    both from the weights of our end.
  """
  names = 'logits', 'auxiliary_logits', 'loss', 'evaluation_logits'
  found = {name: difference(a[name], b[name]) for name in names if name in a}
  found['first_movement'] = distance(a['first'], b['first']) / distance(a['first'], start)
  a, b = a['end'], b['end']
  groups = {'weights': ('kernel', 'scale', 'bias')}
  groups |= {'running_means': ('mean',), 'running_variances': ('var',)}
  found |= {group: largest(a, b, leaves) for group, leaves in groups.items()}
  return {**found, 'movement': distance(a, b) / distance(a, start)}


def replay(arrays):
  """`differences` from PyTorch's float64: of our steps, and where these are float32 of its own."""
  exact, start = run(arrays, torch.float64), under(arrays, 'start')
  ours = {**arrays, **{name: under(arrays, name) for name in ('first', 'end')}}
  found = {'ours': differences(ours, exact, start)}
  if arrays['images'].dtype == np.float32:
    found['pytorch'] = differences(run(arrays, torch.float32), exact, start)
  return found


if __name__ == '__main__':
  replays = [replay(dict(np.load(path, allow_pickle=False))) for path in sys.argv[1:]]
  print(json.dumps({'replays': replays, 'torch': torch.__version__}))
