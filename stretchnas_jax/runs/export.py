"""Exports the network of a run as a file that needs jax and nothing of this package.

The file holds StableHLO with the weights inside, for any batch size; `jax.export.deserialize` reads
it. A JSON file beside it names the classes and describes the images. It also holds the digest of
the program, by which a later export knows both files.
"""

import datetime
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export
from jax import lax
from jaxtyping import Array, Float, UInt8

from stretchnas_jax.machine import files
from stretchnas_jax.runs import json_files, outputs, trained
from stretchnas_jax.runs.parts import Parts

_PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
_PROMISED_DAYS = 180  # JAX documents six months of backward compatibility for exports

# The form of the network on a CPU, and elsewhere by the kind of the run.
_CPU_FORM, _OTHER_FORMS = 'planes', {'search': 'merged', 'train': 'plain'}


def export_trained(
  workdir: str | pathlib.Path,
  path: str | pathlib.Path,
  platforms: Sequence[str] = _PLATFORMS,
  best: bool = False,
  *,
  force: bool = False,
  parts: Parts | Mapping[str, Any] | None = None,
  trust: bool = False,
) -> None:
  """Writes the network of a run as a program that needs jax and nothing of this package.

  The program maps uint8 images `[B, H, W, C]`, for any B, to float32 logits `[B, num_classes]`. It
  normalises the images itself. A file with the same name and the ending .json holds `class_names`,
  `image_shape`, `genotype`, `platforms` and `readable_until`.

  Args:
    workdir: the folder of a training or a search, finished or not.
    path: the file to write.
    platforms: the kinds of devices that can run the program.
    best: True for the weights of the best epoch, as in `load_trained`.
    force: True to replace files that no export wrote; files of a run are never replaced.
    parts: as in `load_trained`.
    trust: as in `load_trained`.

  Raises:
    ValueError, OSError: the folder holds no run or no checkpoint, `path` cannot be written, or a
      file is there that no export wrote.

  Example:
    >>> from jax import export
    >>> export_trained('runs/d1', 'model.stablehlo', platforms=['cpu'])
    >>> network = export.deserialize(bytearray(pathlib.Path('model.stablehlo').read_bytes()))
    >>> network.call(np.zeros((2, 8, 8, 1), np.uint8)).shape
    (2, 10)
  """
  path = check_path(path, force)
  saved = trained.read_run(workdir, best, parts=parts, trust=trust)
  on_cpu, variables, info = trained.use(saved, _CPU_FORM)
  elsewhere = trained.use(saved, _OTHER_FORMS[saved.kind])[0]
  choose = functools.partial(lax.platform_dependent, cpu=on_cpu, default=elsewhere)

  def program(images: UInt8[Array, 'B H W C']) -> Float[Array, 'B M']:
    """Returns the logits of a batch."""
    return choose(jax.tree.map(jnp.asarray, variables), images)

  (batch,) = jax_export.symbolic_shape('batch')
  images = jax.ShapeDtypeStruct((batch, *info['image_shape']), jnp.uint8)
  exported = jax_export.export(jax.jit(program), platforms=platforms)(images)
  content = bytes(exported.serialize())
  description = {
    'class_names': info['class_names'],
    'image_shape': info['image_shape'],
    'genotype': info['genotype'].to_dict(),
    'platforms': list(platforms),
    'readable_until': readable_until(),
    'sha256': hashlib.sha256(content).hexdigest(),
    'about': outputs.MARK,
  }
  described = outputs.marked(json_files.dumps(description, indent=2).encode())
  check_path(path, force)  # somebody may have written there meanwhile
  files.replace(path, content)
  files.replace(path.with_suffix('.json'), described)


def readable_until() -> str:
  """Returns the day until which JAX promises to read an export of today, as 2030-01-31."""
  return str(datetime.date.today() + datetime.timedelta(days=_PROMISED_DAYS))


def check_path(path: str | pathlib.Path, force: bool = False) -> pathlib.Path:
  """Checks the path of an export and of the JSON file beside it; returns it with links followed.

  Args:
    path: the file to write.
    force: True to allow files that no export wrote.

  Raises:
    ValueError: its folder does not exist, it ends in .json, or a file is there that must stay.
  """
  path = pathlib.Path(path)
  if path.suffix == '.json':
    raise ValueError(f'--out is {str(path)!r}; its ending must not be .json')
  program = outputs.check_free(path, _is_own_program, force)
  outputs.check_free(program.with_suffix('.json'), outputs.is_marked, force, named=path)
  return program


def _is_own_program(path: pathlib.Path) -> bool:
  """Returns whether the JSON file beside a program is of an export and has its digest."""
  beside = path.with_suffix('.json')
  if not beside.is_file() or not outputs.is_marked(beside):
    return False
  described = json.loads(beside.read_text('utf-8'))
  return described['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
