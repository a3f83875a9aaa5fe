"""The programs of the last start, loaded while this one still traces its own.

JAX finds a program in its cache by a digest of what tracing gives, so that it loads one only once
it is traced. Here a thread loads meanwhile what the last start of the same name has used: 18.8 s
to the first step become 14.9 (a search at C 16, 8 layers, S 4; two CPU cores, in turn). What runs
stays what was traced: a program is taken by JAX's own digest of it, its compiler and its machine.
"""

import base64
import concurrent.futures
import contextlib
import json

import jax
import numpy as np

from stretchnas_jax.data import cache
from stretchnas_jax.runtime import files

KEEP = 200  # names whose last start is known


@contextlib.contextmanager
def last_programs(*name):
  """A context in which programs of the last start with this name are loaded ahead.

  No fault in it makes a run fail: JAX then loads or compiles as ever, and so it does in a job of
  several processes, and without its cache.

  Args:
    name: values that tell starts with other programs apart; a wrong guess costs time only.
  """
  try:
    folder = cache.default_folder() / 'starts'
    # JAX has no other door to its cache; where this one is closed, it goes on without.
    from jax._src import compilation_cache as jax_cache

    doors = {'get_executable_and_time': 'get', 'put_executable_and_time': 'put'}
    theirs = {door: getattr(jax_cache, door) for door in doors}
    possible = jax.process_count() == 1
  except (RuntimeError, ImportError, AttributeError):  # RuntimeError: the user has no home
    possible = False
  if not possible:
    yield
    return
  start = Start(folder / cache.digest(*name), *theirs.values())
  for door, ours in doors.items():
    setattr(jax_cache, door, getattr(start, ours))
  try:
    start.begin()
    yield
  finally:
    for door in doors:
      setattr(jax_cache, door, theirs[door])
    start.end()


class Start:
  """What this start asks of JAX's cache, which it does under keys, and what is loaded ahead."""

  def __init__(self, path, load, save):
    self._path, self._load, self._save = path, load, save  # the latter two are JAX's own
    self._asked = {}  # key -> what it takes to load it, as a record holds it
    self._used = {}  # the same, of those that the cache has
    self._ahead = {}  # key -> (the same, Future)
    self._machine = None  # known from `begin` on
    self._pool = concurrent.futures.ThreadPoolExecutor(1, 'preload')

  def begin(self):
    """Begins to load what the last start has used, on the same machine, with the same JAX."""
    # The key of a program that is ever the same tells all else that a key depends on.
    jax.jit(lambda x: x + 1).lower(np.float32(0)).compile()
    self._machine = next(iter(self._asked), None)  # None without a cache
    for key, program in self._record().items():
      self._ahead[key] = program, self._pool.submit(self._load_ahead, key, program)

  def get(self, key, options, client, devices, *callbacks):
    """In the place of JAX's own: (program or None, seconds that compiling it took)."""
    if any(callbacks):
      return self._load(key, options, client, devices, *callbacks)
    self._asked[key] = program = {
      'options': base64.b64encode(options.SerializeAsString()).decode(),
      'devices': [device.id for device in devices],
    }
    found = self._take(key, program['devices']) or self._load(key, options, client, devices)
    if found[0] is not None:
      self._note(key)
    return found

  def put(self, key, *compiled):
    """In the place of JAX's own. What had to be compiled says that the last start was another."""
    self.forget()
    self._save(key, *compiled)
    self._note(key)

  def forget(self):
    """Nothing more is loaded ahead."""
    for _, loading in self._ahead.values():
      loading.cancel()
    self._ahead.clear()

  def end(self):
    self.forget()
    self._pool.shutdown(wait=False)

  def _take(self, key, devices):
    """What `_load` would give, or None if that has not begun, or failed."""
    program, loading = self._ahead.pop(key, (None, None))
    if loading is None or program['devices'] != devices or loading.cancel():
      return None
    return None if loading.exception() else loading.result()

  def _load_ahead(self, key, program):
    from jaxlib import xla_client

    options = base64.b64decode(program['options'])
    devices = {device.id: device for device in jax.devices()}
    devices = [devices[i] for i in program['devices']]
    return self._load(
      key, xla_client.CompileOptions.ParseFromString(options), devices[0].client,
      xla_client.DeviceList(tuple(devices)),
    )  # fmt: skip

  def _record(self):
    """The programs of the last start, {} if it is not known."""
    try:
      digest, _, text = self._path.read_text('utf-8').partition('\n')
      record = json.loads(text)
      # XLA ends the process over options that are not as it wrote them.
      if digest != cache.digest(text) or record['machine'] != self._machine:
        return {}
      fields = ('options', 'devices')
      return {key: {f: each[f] for f in fields} for key, each in record['programs'].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
      return {}

  def _note(self, key):
    """Writes down that the cache has what this start uses; those still ahead stay."""
    if self._machine is None or key not in self._asked or key in self._used:
      return
    self._used[key] = self._asked[key]
    ahead = {key: program for key, (program, _) in list(self._ahead.items())}
    text = json.dumps({'machine': self._machine, 'programs': self._used | ahead})
    with contextlib.suppress(OSError):
      self._path.parent.mkdir(parents=True, exist_ok=True)
      files.replace(self._path, f'{cache.digest(text)}\n{text}'.encode())
      made = lambda path: path.stat().st_mtime
      for old in sorted(self._path.parent.iterdir(), key=made)[:-KEEP]:
        old.unlink()
