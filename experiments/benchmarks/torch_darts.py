"""The yardstick of speed: DARTS' search step and the training step of its networks, in PyTorch.

    python -m experiments.benchmarks.torch_darts search --channels=16 --layers=8 --nodes=4 --lean
    python -m experiments.benchmarks.torch_darts train --genotype=DARTS_V2 --channels=36

It takes random data that is already on the device, without augmentation, and prints one JSON line.
Without `--lean` it does the arithmetic of the published code (quark0/darts). There each backward
pass yields the gradients of weights and alphas, needed or not, and `none` is a multiplication by
zero. The mixed rule asks only for the gradients of alpha in its two passes, as MiLeNAS' authors do.
`--lean` leaves out all work that the step does not use; the function and the updates stay. With
`--layout=nhwc` it is PyTorch at its best.

On a CPU its threads wait by spinning, so that other work on a core costs far more than its share.
"""

import argparse
import functools
import json
import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import flop_counter

from experiments.benchmarks import torch_nas_bench
from experiments.benchmarks import torch_networks as networks

Batch = tuple[Tensor, Tensor]  # images and labels

_WARM_SECONDS = 3.0

# ---- steps ---------------------------------------------------------------------------------------


def _edge_scores(beta: Tensor) -> Tensor:
  """Returns PC-DARTS' scores: the softmax over the in-edges of each node."""
  sizes: list[int] = []
  while sum(sizes) < len(beta):
    sizes.append(len(sizes) + 2)
  return torch.cat([F.softmax(part, -1) for part in beta.split(sizes)])


def _search_loss(net: nn.Module, alphas: Sequence[Tensor], batch: Batch) -> Tensor:
  """Returns the loss of a supernet; with partial channels the last two alphas are betas."""
  mixtures = [[row.unbind() for row in F.softmax(alpha, -1).unbind()] for alpha in alphas[:2]]
  scores = [_edge_scores(beta).unbind() for beta in alphas[2:]]
  if scores:
    mixtures = [[(*row, s) for row, s in zip(*pair)] for pair in zip(mixtures, scores)]
  return F.cross_entropy(net(batch[0], mixtures)[0], batch[1])


def train_loss(net: nn.Module, batch: Batch, drop_path: float = 0.0) -> Tensor:
  """Returns the loss of a network, with the loss of its auxiliary head.

  Args:
    net: the network.
    batch: images and labels.
    drop_path: the probability that an edge is dropped.
  """
  logits, extra = net(batch[0], (drop_path, drop_path))
  loss = F.cross_entropy(logits, batch[1])
  return loss if extra is None else loss + 0.4 * F.cross_entropy(extra, batch[1])


def sgd(parameters: Sequence[Tensor]) -> torch.optim.SGD:
  """Returns the optimizer of the weights."""
  return torch.optim.SGD(parameters, 0.025, momentum=0.9, weight_decay=3e-4)


def update(
  parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer, loss: Tensor, lean: bool = False
) -> Tensor:
  """Makes one clipped step of the weights.

  Args:
    parameters: the weights.
    optimizer: of the weights.
    loss: the loss to follow.
    lean: True computes no other gradients.

  Returns:
    The loss.
  """
  optimizer.zero_grad()
  loss.backward(inputs=parameters if lean else None)
  nn.utils.clip_grad_norm_(parameters, 5.0)
  optimizer.step()
  return loss.detach()


def _searcher(
  net: nn.Module,
  alphas: Sequence[Tensor],
  rule: str,
  lean: bool,
  autocast: AbstractContextManager,
) -> Callable[[Batch, Batch], Tensor]:
  """Returns a function (train batch, validation batch) that steps alpha and weights."""
  weights = list(net.parameters())
  adam = torch.optim.Adam(alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
  momentum = sgd(weights)

  def loss_of(batch: Batch) -> Tensor:
    with autocast:
      return _search_loss(net, alphas, batch)

  def step(train: Batch, valid: Batch) -> Tensor:
    adam.zero_grad()
    for batch in (valid, train) if rule == 'mixed' else (valid,):  # The gradients add up.
      loss_of(batch).backward(inputs=alphas if lean or rule == 'mixed' else None)
    adam.step()
    return update(weights, momentum, loss_of(train), lean)

  return step


def _trainer(
  net: nn.Module, drop_path: float, autocast: AbstractContextManager
) -> Callable[[Batch], Tensor]:
  """Returns a function that makes a training step with a batch."""
  weights = list(net.parameters())
  optimizer = sgd(weights)

  def step(batch: Batch) -> Tensor:
    with autocast:
      loss = train_loss(net, batch, drop_path)
    return update(weights, optimizer, loss)

  return step


# ---- arithmetic ----------------------------------------------------------------------------------


def _backward_flops(
  gradient: Sequence[int], x: Any, weight: Sequence[int], *options: Any, out_shape: Any = None
) -> int:
  """Counts a convolution's backward pass: as much as forward for each gradient that is needed.

  PyTorch's own formula forgets the groups: it counts the gradient of a depthwise kernel C times.
  """
  *_, wanted = options
  return 2 * math.prod(gradient) * math.prod(weight[1:]) * sum(wanted[:2])


def count_flops(step: Callable[[], object]) -> int:
  """Counts all convolutions and products of matrices in a call, 2 for each multiply-add."""
  formulas = {torch.ops.aten.convolution_backward: _backward_flops}
  with flop_counter.FlopCounterMode(display=False, custom_mapping=formulas) as counter:
    step()
  return counter.get_total_flops()


# ---- the program ---------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line; None stands for that of the process."""
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
  search.add_argument('--space', choices=('darts', 'nas_bench_201'), default='darts')
  search.add_argument('--nodes', type=int, default=4)
  search.add_argument('--ops', type=int, choices=(8, 7), default=8)
  search.add_argument('--rule', choices=('first_order', 'mixed'), default='first_order')
  search.add_argument('--lean', action='store_true')
  search.add_argument('--partial', type=int, default=1, help="K of PC-DARTS' partial channels")
  train.add_argument('--genotype', default='DARTS_V2')
  train.add_argument('--auxiliary', action='store_true')
  train.add_argument('--drop-path', type=float, default=0.0)
  return parser.parse_args(argv)


def make_step(args: argparse.Namespace) -> tuple[nn.Module, Callable[[], Tensor]]:
  """Returns the network and the step that the command line asks for."""
  layout = torch.channels_last if args.layout == 'nhwc' else torch.contiguous_format
  net, alphas = _network(args)
  net = net.to(args.device, memory_format=layout).train()
  if args.compile:
    net.compile(mode=args.compile)
  shape = args.batch, args.colours, args.image_size, args.image_size

  def random_batch() -> Batch:
    images = torch.randn(shape, device=args.device).to(memory_format=layout)
    return images, torch.randint(10, (args.batch,), device=args.device)

  train, valid = random_batch(), random_batch()
  autocast = torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == 'bfloat16')
  if args.mode == 'search':
    step = _searcher(net, alphas, args.rule, args.lean, autocast)
    return net, functools.partial(step, train, valid)
  return net, functools.partial(_trainer(net, args.drop_path, autocast), train)


def _network(args: argparse.Namespace) -> tuple[nn.Module, list[Tensor]]:
  """Returns the network that the command line asks for, and its alphas, if there are any."""
  sizes = args.channels, args.layers
  if args.mode == 'train':
    net = networks.evaluation_network(
      args.genotype, *sizes, colours=args.colours, auxiliary=args.auxiliary
    )
    return net, []
  if args.space == 'nas_bench_201':
    net, alphas = torch_nas_bench.supernet(*sizes, args.lean, args.colours)
  else:
    names = networks.OPERATIONS[-args.ops :]
    net, alphas = networks.supernet(
      *sizes, args.nodes, names, args.lean, args.partial, colours=args.colours
    )
  return net, [alpha.detach().to(args.device).requires_grad_() for alpha in alphas]


def _timed(step: Callable[[], Tensor], device: str) -> tuple[float, float]:
  """Returns the seconds of a step, and its loss."""
  begin = time.perf_counter()
  loss = step().item()  # waits for the device
  if device == 'cuda':
    torch.cuda.synchronize()
  return time.perf_counter() - begin, loss


def _warm_up(step: Callable[[], Tensor], device: str, most: int) -> list[float]:
  """Returns the seconds of the first step and of `most` more; fewer after some seconds."""
  seconds = [_timed(step, device)[0]]
  while len(seconds) <= most and sum(seconds[1:]) <= _WARM_SECONDS:
    seconds.append(_timed(step, device)[0])
  return seconds


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = parse(argv)
  torch.set_num_threads(args.threads)
  torch.manual_seed(args.seed)
  torch.backends.cudnn.benchmark = True
  # TF32 on a GPU, as in cuDNN's convolutions by default.
  torch.set_float32_matmul_precision('high')
  net, step = make_step(args)
  warmup = _warm_up(step, args.device, args.warmup)
  seconds, losses = zip(*[_timed(step, args.device) for _ in range(args.steps)])
  median = statistics.median(seconds)
  report = vars(args) | {
    'params': sum(p.numel() for p in net.parameters()),
    'warmup_seconds': warmup,
    'step_seconds': seconds,
    'median_step_seconds': median,
    'images_per_second': args.batch / median,
    'loss': losses[-1],
    'peak_memory_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    'torch': torch.__version__,
  }
  if args.device == 'cuda':
    report['gpu'] = torch.cuda.get_device_name()
    report['peak_memory_mb'] = torch.cuda.max_memory_allocated() / 2**20
  if args.flops:  # comes last, because it is one more step, and a slower one
    report['flops_per_step'] = count_flops(step)
  print(json.dumps(report))


if __name__ == '__main__':
  main()
