"""Exports a trained network: `python -m stretchnas_jax.export WORKDIR --out=model.stablehlo`.

The file holds StableHLO with the weights inside, for any batch size; `jax.export.deserialize` runs
it with jax alone. A JSON file beside it names the classes and says what images it takes.
"""

import functools
import json
import logging
import pathlib

import jax
import jax.numpy as jnp
from jax import export as jax_export
from jax import lax

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cli import app
from stretchnas_jax.machine import files
from stretchnas_jax.runs import json_files, trained

PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
ACCELERATOR_FORMS = {'search': 'merged', 'train': 'plain'}

OPTIONS = (
  app.Option('out', 'model.stablehlo', 'where to'),
  app.Option('best', False, 'the weights of the best epoch, of a training with data.holdout'),
)


def export_trained(workdir, path, platforms=PLATFORMS, best=False):
  """Writes the network of a run as a program that needs jax and nothing of this package.

  The program maps uint8 images `[B, H, W, C]`, B free, to float32 logits `[B, num_classes]`;
  normalisation is inside. `path` with the ending .json describes it: `class_names`,
  `image_shape`, `genotype`, `platforms`.

  Args:
    workdir: the folder of a training or a search, finished or not.
    path: where to.
    platforms: on which kinds of devices it is to run.
    best: as of `load_trained`.

  Raises:
    ValueError, OSError: the folder holds no run or no checkpoint, or there is no place at `path`.
  """
  path = check_place(path)
  saved = trained.read_run(workdir, best)
  on_cpu, variables, info = trained.use(saved, 'planes')
  elsewhere = trained.use(saved, ACCELERATOR_FORMS[saved.kind])[0]
  (batch,) = jax_export.symbolic_shape('batch')
  images = jax.ShapeDtypeStruct((batch, *info['image_shape']), jnp.uint8)
  choose = functools.partial(lax.platform_dependent, cpu=on_cpu, default=elsewhere)
  program = jax.jit(lambda images: choose(jax.tree.map(jnp.asarray, variables), images))
  exported = jax_export.export(program, platforms=platforms)(images)
  described = {
    'class_names': info['class_names'],
    'image_shape': info['image_shape'],
    'genotype': json.loads(genotype_lib.to_json(info['genotype'])),
    'platforms': list(platforms),
  }
  files.replace(path.with_suffix('.json'), json_files.dumps(described, indent=2).encode())
  files.replace(path, bytes(exported.serialize()))


def check_place(path):
  path = pathlib.Path(path)
  if path.suffix == '.json':
    raise ValueError(f'--out is {str(path)!r}; its ending must not be .json')
  if not path.absolute().parent.is_dir():
    raise ValueError(f'--out is {str(path)!r}; there is no folder {str(path.parent)!r}')
  return path


def prepare(args):
  check_place(args.out)
  trained.read_run(args.workdir, args.best)

  def work():
    export_trained(args.workdir, args.out, best=args.best)
    logging.info('wrote %s', args.out)

  return work


def main():
  app.run(prepare, config=False, workdir=False, options=OPTIONS, positional=('workdir',))


if __name__ == '__main__':
  main()
