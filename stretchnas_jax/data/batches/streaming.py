"""Feeds of images that are read, decoded and cropped while the devices compute.

Which images are in a batch, and what becomes of them, is a function of the run's seed, the field,
the epoch and the place in it: neither the number of workers, of devices or of processes matters,
nor where a run was interrupted. So the position in a stream is the number of the step, and to
resume there decodes nothing that came before. Crops and flips are made here, on the host; colours
are changed and normalised on the device.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from stretchnas_jax.data.batches import augment, color_jitter, crops, decoding, in_memory
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.data.datasets import images as images_lib
from stretchnas_jax.data.datasets import splits

# Of ImageNet's training images, as torchvision prints them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGE_SIZE = 224


class Pixels(NamedTuple):
  """A chunk of batches, or on a device one batch, as it leaves the host."""

  images: Any  # uint8 [..., B, S, S, 3]
  labels: Any  # int32 [..., B]


class Options(NamedTuple):
  """What becomes of the images of a stream, and who does it."""

  image_size: int = IMAGE_SIZE
  scale: tuple[float, float] = (0.08, 1.0)  # area of a crop relative to the image's
  ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width of a crop relative to its height
  flip: bool = True
  jitter: color_jitter.Strengths | None = color_jitter.Strengths()  # None: colours stay as they are
  cutout: int = 0  # side of the square, in pixels; 0: none
  mean: tuple[float, ...] = IMAGENET_MEAN
  std: tuple[float, ...] = IMAGENET_STD
  workers: int = 0  # threads that decode; 0: one per core
  on_bad_image: str = 'error'  # or skip
  process_index: int = 0  # of this process, which decodes its share of every batch
  process_count: int = 1


class StreamFeed:
  """A feed of learning, see `feeds`; each field of a chunk is `Pixels`.

  What is asked for is decoded first, then as many steps as the next chunk may have. At most 3 x
  `length` steps are held, that chunk included, each of B * `image_size` ** 2 * 3 bytes.

  With on_bad_image 'skip', an image that cannot be read is replaced by the next one, in the order
  of the numbers and in a circle, of the same class and the same part.
  """

  data = ()

  def __init__(self, encoded, parts, batch_size, options, *, seed):
    """Takes what an epoch is made of.

    Args:
      encoded: `encoded.Files` or `encoded.Records`.
      parts: `{field: sorted indices}`; an epoch is one pass over 'train', without its last, smaller
        batch.
      batch_size: of the global batch.
      options: an `Options`.
      seed: of the order and of the crops.

    Raises:
      ValueError: the batch does not divide by the number of processes.
    """
    self._rows = own_rows(batch_size, options)
    self.parts, self.batch_size, self.options, self.seed = parts, batch_size, options, seed
    self.steps_per_epoch = len(parts['train']) // batch_size
    self._decoder = make_decoder(encoded, options)
    self._labels, self._orders, self._begun = encoded.labels, {}, {}

  @property
  def bad_images(self):
    """How many images could not be read so far."""
    return len(self._decoder.bad)

  def chunk(self, epoch, start, count, length):
    first = epoch * self.steps_per_epoch + start
    self._begin(range(first, first + count + length))
    begun = [self._begun[first + t] for t in range(count)]
    chunk = {
      field: self._collect([works[field] for works in begun], length) for field in self.parts
    }
    for t in range(count):
      del self._begun[first + t]
    return chunk

  def _begin(self, steps):
    """Starts to decode these steps, counted over all epochs, and drops all others."""
    for step in set(self._begun) - set(steps):
      for _, work in self._begun.pop(step).values():
        work.cancel()
    for step in steps:
      if step not in self._begun:
        self._begun[step] = {field: self._start(field, step) for field in self.parts}

  def _start(self, field, step):
    """The numbers of a batch's images, and the work on them."""
    epoch, step = divmod(step, self.steps_per_epoch)
    numbers = self._order(field, epoch)[step][self._rows]
    draws = crops.draw(self.batch_size, seed=self.seed, stream=field, epoch=epoch, step=step)
    draws, options = draws[self._rows], self.options
    read = lambda place, file, name: crops.read_random(
      file, draws[place], options.image_size, name=name, scale=options.scale, ratio=options.ratio,
      flip=options.flip,
    )  # fmt: skip
    instead_of = functools.partial(substitutes, self._labels, self.parts[field])
    return numbers, self._decoder.start(numbers, read, options.image_size, instead_of)

  def _order(self, field, epoch):
    """`[steps, B]`; the orders of two epochs are kept, as the next one begins ahead of time."""
    if (field, epoch) not in self._orders:
      kept = {key: order for key, order in self._orders.items() if abs(key[1] - epoch) < 2}
      order = splits.epoch_indices(
        self.parts[field], self.batch_size, self.steps_per_epoch, seed=self.seed, epoch=epoch,
        stream=field,
      )  # fmt: skip
      self._orders = kept | {(field, epoch): order}
    return self._orders[field, epoch]

  def _collect(self, begun, length):
    """Waits for some batches of one field."""
    chunk = empty_chunk(length, self._rows, self.options.image_size)
    for t, (numbers, work) in enumerate(begun):
      chunk.images[t], _ = work.result()
      chunk.labels[t] = self._labels[numbers]
    return chunk

  def examples(self, data, part, key, place):
    images, options = part.images, self.options
    if options.jitter and any(options.jitter):
      images = color_jitter.color_jitter(key, images, place, options.jitter)
      images = augment.standardize(images, options.mean, options.std)
    else:
      images = augment.normalize(images, options.mean, options.std)
    if options.cutout:
      images = augment.cut_out_each(key, images, place, options.cutout)
    return Examples(images, part.labels)

  def close(self):
    self._decoder.close()


class StreamEvaluation:
  """A feed of evaluation, see `feeds`: the centre of every image; a part is `Pixels`.

  With on_bad_image 'skip', an image that cannot be read counts for nothing: its valid is 0. At
  least one must be readable.
  """

  data = ()

  def __init__(self, encoded, indices, batch_size, options):
    self._rows = own_rows(batch_size, options)
    self.count, self.options = len(indices), options
    self._decoder = make_decoder(encoded, options)
    self._labels, self._indices = encoded.labels, np.asarray(indices)
    self._places, self._valid = splits.eval_batches(self.count, batch_size)

  @property
  def bad_images(self):
    """How many images could not be read so far."""
    return len(self._decoder.bad)

  def chunks(self, length):
    spans = in_memory.even_chunks(len(self._places), length)
    begun = {}
    try:
      for start, size in spans:
        for step in range(start, min(start + 2 * size, len(self._places))):
          if step not in begun:
            begun[step] = self._start(step)
        yield self._collect(begun, start, size)
      if self.bad_images == self.count:
        raise images_lib.BadImage(f'none of the {self.count} images to measure on is readable')
    finally:
      for _, _, work in begun.values():
        work.cancel()

  def _start(self, step):
    """Where in the batch there are images, their numbers, and the work on them."""
    places = np.flatnonzero(self._valid[step][self._rows])
    numbers = self._indices[self._places[step][self._rows][places]]
    size = self.options.image_size
    read = lambda place, file, name: crops.read_center(file, size, name=name)
    return places, numbers, self._decoder.start(numbers, read, size)

  def _collect(self, begun, start, size):
    chunk = empty_chunk(size, self._rows, self.options.image_size)
    valid = np.zeros(chunk.labels.shape, np.float32)
    for t in range(min(size, len(self._places) - start)):
      places, numbers, work = begun.pop(start + t)
      chunk.images[t, places], valid[t, places] = work.result()
      chunk.labels[t, places] = self._labels[numbers]
    return chunk, valid

  def examples(self, data, part):
    images = augment.normalize(part.images, self.options.mean, self.options.std)
    return Examples(images, part.labels)

  def close(self):
    self._decoder.close()


def own_rows(batch_size, options):
  """The rows of the global batch that this process decodes, as a slice."""
  return in_memory.own_rows(batch_size, options.process_index, options.process_count)


def make_decoder(encoded, options):
  return decoding.Decoder(encoded, workers=options.workers, on_bad_image=options.on_bad_image)


def empty_chunk(length, rows, size):
  own = rows.stop - rows.start
  return Pixels(np.zeros((length, own, size, size, 3), np.uint8), np.zeros((length, own), np.int32))


def substitutes(labels, part, number):
  """The other images of the same class and part: those that follow `number`, then the rest."""
  same = part[labels[part] == labels[number]]
  return np.concatenate([same[same > number], same[same < number]])


def search_feeds(dataset, parts, batch_size, options, *, seed):
  """Feeds of a search on a data set that is streamed, as `feeds.search_feeds` on one in memory.

  Args:
    dataset: an `encoded.EncodedDataset`.
    parts: `splits.Parts` of its training images.
    batch_size: of the global batch.
    options: an `Options`.
    seed: of the order and of the crops.
  """
  fields = parts._asdict()
  if parts.val_beta is parts.val_alpha:
    del fields['val_beta']
  validation = np.unique(np.concatenate([parts.val_alpha, parts.val_beta]))
  val = StreamEvaluation(dataset.train, validation, batch_size, options)
  return make_feeds(dataset, fields, batch_size, options, seed, val, None)


def train_feeds(dataset, batch_size, options, *, fraction, holdout, seed):
  """Feeds of a training; arguments as of `search_feeds` here and of `feeds.train_feeds`."""
  train, validation = splits.hold_out(dataset.train.labels, fraction=fraction, holdout=holdout)
  val = test = None
  if len(validation):
    val = StreamEvaluation(dataset.train, validation, batch_size, options)
  if dataset.test is not None:
    everything = np.arange(len(dataset.test.labels))
    test = StreamEvaluation(dataset.test, everything, batch_size, options)
  return make_feeds(dataset, {'train': train}, batch_size, options, seed, val, test)


def make_feeds(dataset, parts, batch_size, options, seed, val, test):
  sizes = {name: len(part) for name, part in parts.items()}
  measured = {'val': val, 'test': test} if 'val_alpha' not in parts else {}
  sizes |= {name: feed.count for name, feed in measured.items() if feed is not None}
  size = options.image_size
  return in_memory.Feeds(
    dataset.name, (size, size, 3), dataset.class_names, np.float32(options.mean),
    np.float32(options.std), sizes,
    StreamFeed(dataset.train, parts, batch_size, options, seed=seed), val, test,
  )  # fmt: skip
