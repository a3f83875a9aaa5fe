"""A whole training in PyTorch, for `experiments.agreement`; prints one JSON line.

    python -m experiments.benchmarks.torch_train --data=data.npz --genotype=DARTS_V2 --seed=0

Networks and steps are those of the yardstick; crop, flip and cutout are written here again, in
numpy.
"""

import argparse
import json
import math
import time

import numpy as np
import torch
from torch.nn import functional as F

from experiments.benchmarks import torch_darts as darts
from experiments.benchmarks import torch_networks as networks

# ---- images --------------------------------------------------------------------------------------


def normalized(images, mean, std):
  """uint8 `[..., C]` to float32, as the mean and deviation of images from 0 to 1 say."""
  return ((images / 255 - mean) / std).astype(np.float32)


def augmented(image, chance, mean, std, padding=4, cutout=16):
  """One image `[H, W, C]`: cropped from black padding, mirrored or not, normalised, with a hole.

  The centre of the hole is anywhere in the image, whose border clips it.
  """
  height, width, _ = image.shape
  top, left = chance.integers(2 * padding + 1, size=2)
  padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  image = padded[top : top + height, left : left + width]
  if chance.random() < 0.5:
    image = image[:, ::-1]
  image = normalized(image, mean, std)
  row, column = (chance.integers(side) - cutout // 2 for side in (height, width))
  image[max(row, 0) : row + cutout, max(column, 0) : column + cutout] = 0
  return image


def tensor(images):
  """`[B, H, W, C]` -> `[B, C, H, W]`"""
  return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


# ---- training ------------------------------------------------------------------------------------


def set_rate(optimizer, step, steps, highest=0.025):
  """Half a cosine to 0, a step at a time."""
  optimizer.param_groups[0]['lr'] = highest * (1 + math.cos(math.pi * step / steps)) / 2


def train(net, data, a):
  """Trains in place; an epoch leaves out its last, smaller batch."""
  weights, chance = list(net.train().parameters()), np.random.default_rng(a.seed)
  images, labels, statistics = data['train_images'], data['train_labels'], moments(data)
  optimizer, per_epoch = darts.sgd(weights), len(images) // a.batch
  for step in range(per_epoch * a.epochs):
    epoch, place = divmod(step, per_epoch)
    if place == 0:
      order = chance.permutation(len(images))
    rows = order[place * a.batch : (place + 1) * a.batch]
    made = [augmented(image, chance, *statistics, a.padding, a.cutout) for image in images[rows]]
    batch = tensor(np.stack(made)), torch.from_numpy(labels[rows].astype(np.int64))
    set_rate(optimizer, step, per_epoch * a.epochs)
    loss = darts.train_loss(net, batch, a.drop_path * epoch / a.epochs)
    darts.update(weights, optimizer, loss)


def moments(data):
  return data['mean'], data['std']


@torch.no_grad()
def measure(net, data, batch=500):
  """Accuracy and mean loss on the test images."""
  net.eval()
  images, labels = data['test_images'], data['test_labels']
  correct = loss = 0.0
  for i in range(0, len(images), batch):
    rows = slice(i, i + batch)
    logits, _ = net(tensor(normalized(images[rows], *moments(data))), (0.0, 0.0))
    classes = torch.from_numpy(labels[rows].astype(np.int64))
    correct += (logits.argmax(1) == classes).sum().item()
    loss += F.cross_entropy(logits, classes, reduction='sum').item()
  return {'test_accuracy': correct / len(images), 'test_loss': loss / len(images)}


def run_training(a):
  data = dict(np.load(a.data, allow_pickle=False))
  torch.manual_seed(a.seed)
  net = networks.evaluation_network(a.genotype, a.channels, a.layers, auxiliary=a.auxiliary)
  begin = time.perf_counter()
  train(net, data, a)
  found = measure(net, data)
  params = sum(p.numel() for name, p in net.named_parameters() if 'auxiliary' not in name)
  return {**vars(a), **found, 'params': params, 'seconds': time.perf_counter() - begin}


# ---- the program ---------------------------------------------------------------------------------


def parse(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', required=True, help='.npz of images, labels, mean and std')
  parser.add_argument('--genotype', default='DARTS_V2')
  parser.add_argument('--noauxiliary', dest='auxiliary', action='store_false')
  parser.add_argument('--drop-path', type=float, default=0.2)
  numbers = {'seed': 0, 'channels': 8, 'layers': 5, 'epochs': 3, 'batch': 96}
  for flag, default in (numbers | {'padding': 4, 'cutout': 16}).items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  return parser.parse_args(argv)


def main(argv=None):
  a = parse(argv)
  print(json.dumps({**run_training(a), 'torch': torch.__version__}))


if __name__ == '__main__':
  main()
