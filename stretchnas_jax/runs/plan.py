"""What the plans of search and training share: checks, loading, words for a person."""

from stretchnas_jax.data.batches import color_jitter, streaming
from stretchnas_jax.data.datasets import encoded, loading
from stretchnas_jax.machine import parallel
from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs import loop

# Fields that may differ from one start to the next of the same run.
FREE = (
  'search.steps_per_call', 'train.steps_per_call', 'data.workers', 'data.on_bad_image',
  'checkpoint', 'log',
)  # fmt: skip


def is_stream(data):
  """Whether images of a config's group `data` are read as they are needed."""
  return data.stream or data.name == encoded.IMAGENET


def load_dataset(data):
  """The data set of a config's group `data`: in memory, or, of a stream, where it is."""
  if is_stream(data):
    return encoded.load(data.name, path=data.path)
  return loading.load(
    data.name, path=data.path, image_size=data.image_size, on_bad_image=data.on_bad_image
  )


def stream_options(data):
  """What becomes of the images of a stream."""
  strengths = color_jitter.Strengths(*[data.jitter * most for most in color_jitter.Strengths()])
  index, count = parallel.process()
  return streaming.Options(
    image_size=data.image_size or streaming.IMAGE_SIZE,
    scale=(data.crop_scale, 1.0),
    flip=data.flip,
    jitter=strengths if data.jitter else None,
    cutout=data.cutout,
    workers=data.workers,
    on_bad_image=data.on_bad_image,
    process_index=index,
    process_count=count,
  )


def check_form(form):
  """ValueError for the form on which XLA's compiler for GPUs ends the process (JAX 0.11)."""
  if form == 'planes' and parallel.on_gpu():
    raise ValueError("model.form is 'planes', which is for a CPU; on a GPU use auto or merged")


def check_even(channels, where):
  """ValueError for an odd C where halves of it are needed."""
  if channels % 2:
    raise ValueError(f'config.model.channels is {channels}; {where} it must be even')


def check_devices(field, batch_size, backend):
  """ValueError unless a batch of that size divides by the number of devices."""
  parallel.check_backend(backend)
  devices = parallel.device_count(backend)
  if batch_size % devices:
    raise ValueError(
      f'config.{field} is {batch_size}; it must be a multiple of the {devices} devices'
    )


def check_batch(field, batch_size, smallest):
  """ValueError where a batch is larger than a part of the data."""
  if batch_size > smallest:
    raise ValueError(
      f'config.{field} is {batch_size}; the smallest part of the data has {smallest} images'
    )


def settings_of(config, group, steps_per_epoch):
  """The loop's `Settings`; `group` is config.search or config.train."""
  return loop.Settings(
    epochs=group.epochs,
    steps_per_epoch=steps_per_epoch,
    batch_size=group.batch_size,
    steps_per_call=group.steps_per_call,
    every_steps=config.checkpoint.every_steps,
    backend=config.parallel.backend,
    tensorboard=config.log.tensorboard,
  )


def identity_of(feeds, config):
  """In what a checkpoint must agree: the data, and the config (a nested dict) as a digest."""
  return {
    'class_names': feeds.class_names,
    'image_shape': feeds.image_shape,
    'mean': feeds.mean,
    'std': feeds.std,
    'config': fields_lib.digest(config, FREE),
  }


def describe_data(feeds):
  height, width, channels = feeds.image_shape
  parts = ' '.join(f'{name} {size}' for name, size in feeds.sizes.items())
  return (
    f'data      {feeds.name}: {height}x{width}x{channels}, {len(feeds.class_names)} classes; '
    f'{parts}'
  )


def describe_devices(backend):
  return f'devices   {parallel.Devices(backend).describe()}'
