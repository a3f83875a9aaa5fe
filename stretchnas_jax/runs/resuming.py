"""Checks that a folder and its checkpoints belong to the run that is to go on there."""

import pathlib

from stretchnas_jax import config as config_lib
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.machine import output
from stretchnas_jax.runs import checkpoint, identity, json_files
from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs import plan as plan_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.task import FREE, Plan


def identity_of(plan: Plan, folder: workdir_lib.Workdir) -> dict:
  """Returns the facts in which a checkpoint must agree with a run.

  Args:
    plan: of the run.
    folder: of the run; its config has the fields with which the run was made.
  """
  feeds, config = plan.feeds, dict(folder.config)
  measured = [part for part in ('val', 'test') if getattr(feeds, part) is not None]
  cell = {'genotype': config.pop('genotype')} if 'genotype' in config else {}
  return {
    **cell,
    'class_names': feeds.class_names,
    'image_shape': feeds.image_shape,
    'mean': feeds.mean,
    'std': feeds.std,
    **identity.of_checkpoint(identity.facts_of(feeds.fingerprint), config, FREE),
    # Own images decide by themselves which parts are measured; else the config does.
    **({} if plan.parts.data is None else {'evaluations': measured}),
    **(plan_lib.own_validation(plan.config, feeds) if cell and plan.parts.data is None else {}),
  }


def old_identity_of(folder: workdir_lib.Workdir) -> dict:
  """Returns the facts in which a checkpoint of version 0.1 must agree with the run of a folder."""
  config = {name: value for name, value in folder.config.items() if name != 'genotype'}
  return identity.of_config(config, FREE)


def check_folder(plan: Plan, folder: workdir_lib.Workdir) -> None:
  """Raises Refused unless a folder can keep checkpoints, and those in it, if any, are of this run.

  Args:
    plan: of the run.
    folder: of the run.
  """
  path = folder.path / 'checkpoints'
  if not path.is_dir():
    if folder.writes:
      checkpoint.try_place(folder.path)
    return
  wanted = json_files.plain(identity_of(plan, folder) | old_identity_of(folder))
  others = []
  with checkpoint.Checkpoints(path, read_only=True) as saved:
    for _, meta in saved.metas():
      others.append(checkpoint.other_name(meta, wanted))
      if not others[-1]:
        return  # those of another run are passed over later
  if others:
    raise workdir_lib.Refused(
      f'the checkpoints in {path} are of a run with another {others[0]}: choose another workdir'
    )


def as_made(config: ConfigDict, path: pathlib.Path) -> ConfigDict:
  """Returns a config with which a run of an earlier version goes on as it began.

  A field that the folder lacks, and whose default is another than what that version did, gets the
  value of that version. A line says so.

  Args:
    config: of this start.
    path: the folder, which may be new.
  """
  try:
    stored = fields_lib.flatten(json_files.read_object(path / 'config.json'))
  except (OSError, ValueError):  # a new folder; a damaged one is named later
    return config
  former = config_lib.former_values(config, stored)
  if not former or 'model.channels' not in stored:
    return config
  words = ', '.join(f'{field}={value}' for field, value in former.items())
  output.say(f'{path} was begun by an earlier version, and goes on with {words}')
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(former)
  return config
