"""Which classes a trained network confuses, and the images on which it is most wrong.

These need the network and the images. They are measured once, and kept in the folder of the run.
"""

import base64
import contextlib
import io
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from stretchnas_jax.data.batches import feeds as feeds_lib
from stretchnas_jax.data.batches import opening
from stretchnas_jax.machine import faults, files, parallel
from stretchnas_jax.runs import build, identity, json_files, steps, trained
from stretchnas_jax.runs import parts as parts_lib

FILE = 'confusion.json'

_WORST = 12  # images that a page shows
_MOST_CLASSES = 40  # of a matrix that a page shows
_MOST_PIXELS = 96  # a side of a shown image


def read(path: pathlib.Path) -> dict[str, Any]:
  """Returns the kept facts of a run; {} where there are none of its last epoch.

  Args:
    path: the folder.
  """
  with contextlib.suppress(ValueError, OSError):
    found = json_files.read_object(path / FILE)
    lines = json_files.read_lines(path / 'metrics.jsonl')
    if lines and found.get('step') == lines[-1].get('step'):
      return found
  return {}


def is_known(path: pathlib.Path) -> bool:
  """Returns whether the facts of a run are kept, or the run is not a training."""
  return not (path / 'genotype.json').is_file() or bool(read(path))


def measure(path: pathlib.Path, images: int, trust: bool = False) -> str:
  """Measures a training with its newest checkpoint, and keeps the facts; says where it cannot.

  Args:
    path: the folder of the run; one of a search is left as it is.
    images: how many are measured at most.
    trust: as for `trained.read_run`.

  Returns:
    Why it could not measure; '' where it did, and for a search.
  """
  try:
    values = json_files.read_object(path / 'config.json')
    if 'train' not in values:
      return ''
    saved = trained.read_run(path, trust=trust)
    own = parts_lib.of_run(path, trust=trust)
    if 'data' in values.get('parts', {}) and own.data is None:
      raise ValueError('its images came from Python, and are not kept')
    if opening.is_streamed(saved.config.data):
      raise ValueError('the images are a stream, and are not read again for this')
    with contextlib.closing(opening.open_training(saved.config, own.data)) as feeds:
      identity.check_read(path, feeds.fingerprint)
      found = _measured(saved, feeds, images)
    files.replace(path / FILE, json_files.dumps(found).encode())
  except (ValueError, OSError) as error:
    why = faults.one_line(error)
    logging.warning('which classes are confused is not known: %s', why)
    return why
  return ''


def _measured(saved: trained.Saved, feeds: feeds_lib.Feeds, images: int) -> dict[str, Any]:
  part = 'test' if feeds.test is not None else 'val'
  feed = getattr(feeds, part)
  if feed is None:
    raise ValueError('there are no images to measure it on')
  pixels, labels, logits = _predicted(saved, feed, images)
  pixels = np.clip(255 * (pixels * feeds.std + feeds.mean) + 0.5, 0, 255).astype(np.uint8)
  powers = np.exp(logits - logits.max(1, keepdims=True))
  shares = powers / powers.sum(1, keepdims=True)
  guesses, names = shares.argmax(1), list(feeds.class_names)
  counts = np.zeros((len(names), len(names)), int)
  np.add.at(counts, (labels, guesses), 1)
  wrong = np.flatnonzero(guesses != labels)
  worst = wrong[np.argsort(shares[wrong, labels[wrong]], kind='stable')][:_WORST]
  return {
    'step': saved.step,
    'part': part,
    'images': len(labels),
    'total': feed.count,
    'classes': names[:_MOST_CLASSES],
    'counts': counts[:_MOST_CLASSES, :_MOST_CLASSES],
    'num_classes': len(names),
    'wrong': len(wrong),
    'worst': [
      {
        'png': _png(pixels[i]),
        'label': names[labels[i]],
        'guess': names[guesses[i]],
        'share': float(shares[i, guesses[i]]),
      }
      for i in worst
    ],
  }


def _predicted(
  saved: trained.Saved, feed: feeds_lib.EvaluationFeed, images: int
) -> tuple[Float[np.ndarray, 'N H W C'], Int[np.ndarray, ' N'], Float[np.ndarray, 'N M']]:
  """Returns normalised images, labels and logits of some batches, evenly spread."""
  state = parallel.fetch(saved.state)
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  network = jax.jit(build.at_precision(saved.objects.net.apply, saved.config.model.precision))
  found, data = [], jax.tree.map(jnp.asarray, feed.data)
  batches = [(steps.one_of(part, 0), valid[0]) for part, valid in feed.chunks(1)]
  size = max(len(batches[0][1]), 1)
  stride = max(1, -(-len(batches) * size // max(images, 1)))
  for batch, valid in batches[::stride]:
    examples = feed.examples(data, jax.tree.map(jnp.asarray, batch))
    logits = network(variables, examples.images)
    real = valid > 0
    three = (examples.images, examples.labels, logits)
    found.append([np.asarray(array)[real] for array in three])
  pixels, labels, logits = (np.concatenate(arrays) for arrays in zip(*found))
  return np.asarray(pixels, float), labels, np.asarray(logits, float)


def _png(pixels: UInt8[np.ndarray, 'H W C']) -> str:
  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
  buffer = io.BytesIO()
  image.save(buffer, 'PNG')
  return base64.b64encode(buffer.getvalue()).decode()
