"""The yardstick of speed: DARTS' search step and the training step of its networks, in PyTorch.

    python -m experiments.benchmarks.torch_darts search --channels=16 --layers=8 --nodes=4 --lean
    python -m experiments.benchmarks.torch_darts train --genotype=DARTS_V2 --channels=36

Random data that is already where it is used, no augmentation; prints one JSON line. Without
`--lean` it does the arithmetic of the published code (quark0/darts): each backward pass yields the
gradients of weights and alphas, needed or not, and `none` is a multiplication by zero. The mixed
rule asks for the gradients of alpha alone in its two passes, as MiLeNAS' authors do. `--lean`
computes only what the step uses: the same function and updates, less work; with `--layout=nhwc` it
is PyTorch at its best.

On a CPU its threads wait by spinning: a busy core elsewhere costs far more than its share.
"""

import argparse
import contextlib
import functools
import json
import math
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import flop_counter

from experiments.benchmarks import torch_networks as networks

WARM_SECONDS = 3.0

# ---- steps ---------------------------------------------------------------------------------------


def search_loss(net, alphas, batch):
  mixtures = [[row.unbind() for row in F.softmax(alpha, -1).unbind()] for alpha in alphas]
  return F.cross_entropy(net(batch[0], mixtures)[0], batch[1])


def train_loss(net, batch, drop_path=0.0):
  logits, extra = net(batch[0], (drop_path, drop_path))
  loss = F.cross_entropy(logits, batch[1])
  return loss if extra is None else loss + 0.4 * F.cross_entropy(extra, batch[1])


def sgd(parameters):
  return torch.optim.SGD(parameters, 0.025, momentum=0.9, weight_decay=3e-4)


def update(parameters, optimizer, loss, lean=False):
  """One clipped step of the weights."""
  optimizer.zero_grad()
  loss.backward(inputs=parameters if lean else None)
  nn.utils.clip_grad_norm_(parameters, 5.0)
  optimizer.step()
  return loss.detach()


def searcher(net, alphas, rule='first_order', lean=False, autocast=None):
  """A function (train batch, validation batch) -> training loss: a step of alpha and weights."""
  weights = list(net.parameters())
  adam = torch.optim.Adam(alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
  momentum, autocast = sgd(weights), autocast or contextlib.nullcontext()

  def loss_of(batch):
    with autocast:
      return search_loss(net, alphas, batch)

  def step(train, valid):
    adam.zero_grad()
    for batch in (valid, train) if rule == 'mixed' else (valid,):  # the gradients add up
      loss_of(batch).backward(inputs=alphas if lean or rule == 'mixed' else None)
    adam.step()
    return update(weights, momentum, loss_of(train), lean)

  return step


def trainer(net, drop_path=0.0, autocast=None):
  """A function (batch) -> loss that makes a training step."""
  weights, autocast = list(net.parameters()), autocast or contextlib.nullcontext()
  optimizer = sgd(weights)

  def step(batch):
    with autocast:
      loss = train_loss(net, batch, drop_path)
    return update(weights, optimizer, loss)

  return step


# ---- arithmetic ----------------------------------------------------------------------------------


def backward_flops(gradient, x, weight, *options, out_shape=None):
  """Of a convolution's backward pass: as much as forward for each of the gradients asked for.

  PyTorch's own formula forgets the groups: it counts the gradient of a depthwise kernel C times.
  """
  *_, wanted = options
  return 2 * math.prod(gradient) * math.prod(weight[1:]) * sum(wanted[:2])


def count_flops(step):
  """Of all convolutions and products of matrices in a call; 2 for each multiply-add."""
  formulas = {torch.ops.aten.convolution_backward: backward_flops}
  with flop_counter.FlopCounterMode(display=False, custom_mapping=formulas) as counter:
    step()
  return counter.get_total_flops()


# ---- the program ---------------------------------------------------------------------------------


def parse(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  modes = parser.add_subparsers(dest='mode', required=True)
  search, train = modes.add_parser('search'), modes.add_parser('train')
  for sub, channels, layers, batch in ((search, 16, 8, 16), (train, 36, 20, 8)):
    numbers = {'channels': channels, 'layers': layers, 'batch': batch, 'steps': 5, 'warmup': 6}
    numbers |= {'threads': 2, 'seed': 0, 'image-size': 32, 'colours': 3}
    for flag, default in numbers.items():
      sub.add_argument(f'--{flag}', type=int, default=default)
    sub.add_argument('--layout', choices=('nchw', 'nhwc'), default='nchw')
    sub.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    # bfloat16: autocast; the weights stay float32
    sub.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
    sub.add_argument('--compile', nargs='?', const='default', help='torch.compile, in this mode')
    sub.add_argument('--flops', action='store_true', help='count the arithmetic of a step too')
  search.add_argument('--nodes', type=int, default=4)
  search.add_argument('--ops', type=int, choices=(8, 7), default=8)
  search.add_argument('--rule', choices=('first_order', 'mixed'), default='first_order')
  search.add_argument('--lean', action='store_true')
  train.add_argument('--genotype', default='DARTS_V2')
  train.add_argument('--auxiliary', action='store_true')
  train.add_argument('--drop-path', type=float, default=0.0)
  return parser.parse_args(argv)


def make_step(a):
  """(network, step) that the command line asks for."""
  layout = torch.channels_last if a.layout == 'nhwc' else torch.contiguous_format
  if a.mode == 'search':
    names = networks.OPERATIONS[-a.ops :]
    net, alphas = networks.supernet(a.channels, a.layers, a.nodes, names, a.lean, colours=a.colours)
    alphas = [alpha.detach().to(a.device).requires_grad_() for alpha in alphas]
  else:
    sizes = {'colours': a.colours, 'auxiliary': a.auxiliary}
    net = networks.evaluation_network(a.genotype, a.channels, a.layers, **sizes)
  net = net.to(a.device, memory_format=layout).train()
  if a.compile:
    net.compile(mode=a.compile)
  shape = a.batch, a.colours, a.image_size, a.image_size
  images = lambda: torch.randn(shape, device=a.device).to(memory_format=layout)
  labels = lambda: torch.randint(10, (a.batch,), device=a.device)
  train, valid = (images(), labels()), (images(), labels())
  autocast = torch.autocast(a.device, torch.bfloat16, enabled=a.dtype == 'bfloat16')
  if a.mode == 'search':
    return net, functools.partial(searcher(net, alphas, a.rule, a.lean, autocast), train, valid)
  return net, functools.partial(trainer(net, a.drop_path, autocast), train)


def timed(step, device):
  begin = time.perf_counter()
  loss = step().item()  # waits for the device
  if device == 'cuda':
    torch.cuda.synchronize()
  return time.perf_counter() - begin, loss


def warm_up(step, device, most):
  """Seconds of the first step and of `most` more, fewer after some seconds; as in ours."""
  seconds = [timed(step, device)[0]]
  while len(seconds) <= most and sum(seconds[1:]) <= WARM_SECONDS:
    seconds.append(timed(step, device)[0])
  return seconds


def main(argv=None):
  a = parse(argv)
  torch.set_num_threads(a.threads)
  torch.manual_seed(a.seed)
  torch.backends.cudnn.benchmark = True
  # On a GPU: TF32, as cuDNN's convolutions have it anyway.
  torch.set_float32_matmul_precision('high')
  net, step = make_step(a)
  warmup = warm_up(step, a.device, a.warmup)
  seconds, losses = zip(*[timed(step, a.device) for _ in range(a.steps)])
  median = statistics.median(seconds)
  report = vars(a) | {
    'params': sum(p.numel() for p in net.parameters()),
    'warmup_seconds': warmup,
    'step_seconds': seconds,
    'median_step_seconds': median,
    'images_per_second': a.batch / median,
    'loss': losses[-1],
    'peak_memory_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    'torch': torch.__version__,
  }
  if a.device == 'cuda':
    report |= {'gpu': torch.cuda.get_device_name()}
    report |= {'peak_memory_mb': torch.cuda.max_memory_allocated() / 2**20}
  if a.flops:  # last: it is a step more, and slower
    report |= {'flops_per_step': count_flops(step)}
  print(json.dumps(report))


if __name__ == '__main__':
  main()
