"""Trains a network in PyTorch, for `experiments.agreement`; prints one JSON line.

    python -m experiments.benchmarks.torch_train --data=data.npz --genotype=DARTS_V2 --seed=0

Networks and steps are those of the yardstick. Crop, flip and cutout are written here again, in
NumPy.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.benchmarks import torch_darts as darts
from experiments.benchmarks import torch_networks as networks

# ---- images --------------------------------------------------------------------------------------


def _normalized(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
  """Returns normalised images.

  Args:
    images: uint8 `[..., C]`.
    mean: of images from 0 to 1, `[C]`.
    std: of images from 0 to 1, `[C]`.

  Returns:
    float32 of the same shape.
  """
  return ((images / 255 - mean) / std).astype(np.float32)


def augmented(
  image: np.ndarray,
  chance: np.random.Generator,
  mean: np.ndarray,
  std: np.ndarray,
  padding: int = 4,
  cutout: int = 16,
) -> np.ndarray:
  """Returns an image that is cropped from black padding, perhaps mirrored, and has a hole.

  The centre of the hole is anywhere in the image, whose border clips it.

  Args:
    image: uint8 `[H, W, C]`.
    chance: the source of chance.
    mean: of images from 0 to 1.
    std: of images from 0 to 1.
    padding: pixels on each side.
    cutout: the side of the hole in pixels.

  Returns:
    float32 `[H, W, C]`, normalised.
  """
  height, width, _ = image.shape
  top, left = chance.integers(2 * padding + 1, size=2)
  padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  image = padded[top : top + height, left : left + width]
  if chance.random() < 0.5:
    image = image[:, ::-1]
  image = _normalized(image, mean, std)
  row, column = (chance.integers(side) - cutout // 2 for side in (height, width))
  image[max(row, 0) : row + cutout, max(column, 0) : column + cutout] = 0
  return image


def tensor(images: np.ndarray) -> Tensor:
  """Returns images `[B, H, W, C]` as a tensor `[B, C, H, W]`."""
  return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


# ---- training ------------------------------------------------------------------------------------


def set_rate(
  optimizer: torch.optim.Optimizer, step: int, steps: int, highest: float = 0.025
) -> None:
  """Sets the learning rate of a step: half a cosine to 0.

  Args:
    optimizer: of the weights.
    step: counted from 0.
    steps: of the whole training.
    highest: the rate of the first step.
  """
  optimizer.param_groups[0]['lr'] = highest * (1 + math.cos(math.pi * step / steps)) / 2


def train(net: nn.Module, data: Mapping[str, np.ndarray], args: argparse.Namespace) -> None:
  """Trains a network in place; an epoch leaves out its last, smaller batch.

  Args:
    net: the network.
    data: images, labels, mean and deviation.
    args: the command line.
  """
  weights, chance = list(net.train().parameters()), np.random.default_rng(args.seed)
  images, labels = data['train_images'], data['train_labels']
  optimizer, per_epoch = darts.sgd(weights), len(images) // args.batch
  for step in range(per_epoch * args.epochs):
    epoch, place = divmod(step, per_epoch)
    if place == 0:
      order = chance.permutation(len(images))
    rows = order[place * args.batch : (place + 1) * args.batch]
    made = [
      augmented(image, chance, data['mean'], data['std'], args.padding, args.cutout)
      for image in images[rows]
    ]
    batch = tensor(np.stack(made)), torch.from_numpy(labels[rows].astype(np.int64))
    set_rate(optimizer, step, per_epoch * args.epochs)
    loss = darts.train_loss(net, batch, args.drop_path * epoch / args.epochs)
    darts.update(weights, optimizer, loss)


@torch.no_grad()
def measure(net: nn.Module, data: Mapping[str, np.ndarray], batch: int = 500) -> dict[str, float]:
  """Returns accuracy and mean loss on the test images.

  Args:
    net: the network.
    data: images, labels, mean and deviation.
    batch: images at a time.
  """
  net.eval()
  images, labels = data['test_images'], data['test_labels']
  correct = loss = 0.0
  for i in range(0, len(images), batch):
    rows = slice(i, i + batch)
    logits, _ = net(tensor(_normalized(images[rows], data['mean'], data['std'])), (0.0, 0.0))
    classes = torch.from_numpy(labels[rows].astype(np.int64))
    correct += (logits.argmax(1) == classes).sum().item()
    loss += F.cross_entropy(logits, classes, reduction='sum').item()
  return {'test_accuracy': correct / len(images), 'test_loss': loss / len(images)}


def _run_training(args: argparse.Namespace) -> dict[str, Any]:
  """Makes the training that the command line asks for, and returns its result."""
  data = dict(np.load(args.data, allow_pickle=False))
  torch.manual_seed(args.seed)
  net = networks.evaluation_network(
    args.genotype, args.channels, args.layers, auxiliary=args.auxiliary
  )
  begin = time.perf_counter()
  train(net, data, args)
  found = measure(net, data)
  params = sum(p.numel() for name, p in net.named_parameters() if 'auxiliary' not in name)
  return {**vars(args), **found, 'params': params, 'seconds': time.perf_counter() - begin}


# ---- the program ---------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line; None stands for that of the process."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', required=True, help='.npz of images, labels, mean and std')
  parser.add_argument('--genotype', default='DARTS_V2')
  parser.add_argument('--noauxiliary', dest='auxiliary', action='store_false')
  parser.add_argument('--drop-path', type=float, default=0.2)
  numbers = {'seed': 0, 'channels': 8, 'layers': 5, 'epochs': 3, 'batch': 96}
  for flag, default in (numbers | {'padding': 4, 'cutout': 16}).items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  print(json.dumps({**_run_training(parse(argv)), 'torch': torch.__version__}))


if __name__ == '__main__':
  main()
