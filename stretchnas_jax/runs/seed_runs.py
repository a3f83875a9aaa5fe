"""Runs of several seeds in one folder: beside each other on the devices, or one after the other."""

import contextlib
import functools
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from stretchnas_jax.config import ConfigDict
from stretchnas_jax.machine import devices as devices_lib
from stretchnas_jax.machine import faults, lanes, output, parallel
from stretchnas_jax.runs import identity, json_files, resuming, steps
from stretchnas_jax.runs import seeds as seeds_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.runner import Runner, write_page
from stretchnas_jax.runs.task import FREE, Plan, Programs


def prepare(
  runner: Runner, config: ConfigDict, path: pathlib.Path, seeds: Sequence[int]
) -> Callable[[], dict | None]:
  """Checks everything; returns the function that runs each seed, in `path/seed_0` and so on.

  Args:
    runner: starts the runs.
    config: of the runs; its own seed does not count.
    path: the folder of their folders.
    seeds: different whole numbers.
  """
  seeds_lib.check(seeds)
  places = _places(runner, config, len(seeds))
  first = runner.plan(seeds_lib.with_seed(config, seeds[0]), places[0] if places else None)
  fields = {**first.fields, 'seeds': list(seeds)}
  del fields['seed']
  known = (path / 'config.json').exists()
  # A folder of several runs may get other seeds; the folder of one run may not.
  known = known and 'seeds' in json_files.read_object(path / 'config.json')
  with contextlib.ExitStack() as until_work:
    until_work.enter_context(contextlib.closing(first))
    free = (*FREE, 'seeds') if known else FREE
    identity.check_processes(fields, identity.facts_of(first.feeds.fingerprint))
    folder = until_work.enter_context(runner.open(path, fields, first, free))
    if seeds_lib.finished(folder, seeds):
      return functools.partial(runner.finished_result, folder)
    until_work.pop_all()
  return _SeedRuns(runner, first, folder, tuple(seeds), places, threading.Lock()).go


def _places(runner: Runner, config: ConfigDict, count: int) -> tuple[parallel.Devices, ...]:
  """Returns a device for each run; nothing where the runs follow each other.

  Args:
    runner: whose `on_epoch`, if any, hears of one run at a time.
    config: of the runs.
    count: how many seeds there are.
  """
  wanted = config.parallel.get('seeds') == 'beside' and runner.on_epoch is None
  if not wanted or devices_lib.process()[1] > 1:
    return ()
  backend, found = config.parallel.backend, devices_lib.of_this_process()[:count]
  if len(found) < 2:
    return ()
  return tuple(parallel.Devices(backend, (device,), portable=True) for device in found)


class _SeedRuns(NamedTuple):
  """The runs of some seeds.

  Attributes:
    runner: starts each.
    first: the plan of the first seed.
    folder: of their folders.
    seeds: in order.
    places: a device for each run at work; empty where one follows the other on all devices.
    alone: held by the one run that is planned or begun at a time.
  """

  runner: Runner
  first: Plan
  folder: workdir_lib.Workdir
  seeds: tuple[int, ...]
  places: tuple[parallel.Devices, ...]
  alone: threading.Lock

  def go(self) -> dict | None:
    """Returns the summary of all seeds, or None where `on_epoch` stopped them."""
    task, programs = self.runner.task, self.runner.task.compile(self.first)
    with self.folder, contextlib.closing(self.first):
      results = self._beside(programs) if self.places else self._in_turn(programs)
      if results is None:
        return None
      summary = seeds_lib.summary(self.seeds, results, task.shared_fields)
      self.folder.write_json('result.json', summary)
      write_page(self.folder)
    if self.folder.writes:
      output.say(seeds_lib.report(self.folder.path, summary))
    return summary

  def _in_turn(self, programs: Programs) -> list[dict] | None:
    """Runs one seed after the other, on all devices; None where `on_epoch` stopped one."""
    results = []
    for seed in self.seeds:
      result = self._run(seed, None, programs)
      if result is None:
        return None
      results.append(result)
    return results

  def _beside(self, programs: Programs) -> list[dict]:
    """Runs as many seeds at once as there are devices, each on a device of its own."""
    self.runner.tell(self.first, self.folder)
    shown, count = ', '.join(map(str, self.seeds)), len(self.places)
    output.say(f'seeds     {shown}; {count} at a time, each on a device of its own')
    home = self.places[0].devices or ()
    programs = programs._replace(init=self._on_one(programs.init, home[0]))
    by_device = {place.devices: place for place in self.places}
    return lanes.run(
      [f'seed {seed}' for seed in self.seeds],
      [device for place in self.places for device in place.devices or ()],
      lambda number, device: self._run(self.seeds[number], by_device[(device,)], programs),
    )

  def _on_one(
    self, init: Callable[[PRNGKeyArray], steps.Position], device: jax.Device
  ) -> Callable[[PRNGKeyArray], steps.Position]:
    """Returns an `init` that runs on one device for all seeds, so that it compiles once."""

    def initialize(key: PRNGKeyArray) -> steps.Position:
      with self.alone, jax.default_device(device):
        return init(jax.device_put(key, device))

    return initialize

  def _run(self, seed: int, place: parallel.Devices | None, programs: Programs) -> dict | None:
    """Returns the result of one seed, from its folder if it is there.

    Args:
      seed: of the run.
      place: the device of the run; None for all of them.
      programs: those of the first plan.
    """
    runner, first = self.runner, self.first
    fields, facts = {**first.fields, 'seed': seed}, identity.facts_of(first.feeds.fingerprint)
    with runner.open(self.folder.path / f'seed_{seed}', fields, first) as inner:
      if inner.finished:
        found = runner.finished_result(inner)
        with faults.reading(inner.path / 'result.json'):
          seeds_lib.summary((seed,), (found,), runner.task.shared_fields)
        return found
      if inner.writes:
        output.say(f'seed {seed}' if place is None else f'begins on {(place.devices or ("",))[0]}')
      with faults.checking(), self.alone:
        plan = self._plan(seed, place)
      with contextlib.closing(plan):
        # The images may have changed while the seeds before were at work.
        now, compare_times = plan.feeds.fingerprint, plan.config.data.compare_times
        identity.check(inner.path, facts, identity.facts_of(now), compare_times)
        resuming.check_folder(plan, inner)
        return runner.run(plan, inner, programs)

  def _plan(self, seed: int, place: parallel.Devices | None) -> Plan:
    """Returns the plan of a seed; that of the first seed is there if it has the same device."""
    if seed == self.seeds[0] and place in (None, self.first.settings.devices):
      return self.first
    return self.runner.plan(seeds_lib.with_seed(self.first.config, seed), place)
