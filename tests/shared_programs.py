"""Programs that equal runs of one process share, so that tests of runs compile them once."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from unittest import mock

import pytest

from stretchnas_jax.runs import entry_points, fields, search_task, task, train_task

_Compile = Callable[[task.Plan], task.Programs]

# With each plan, so that no other object gets the place of one of its objects in memory.
_compiled: dict[tuple[str, ...], tuple[task.Plan, task.Programs]] = {}


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
  """Lets runs share programs, as the runs of several seeds do.

  Runs share them where networks, data, own objects and fields are equal; seed and free fields may
  differ. Runs that real signals stop, in `test_kills` and `test_stopping`, share nothing.
  """
  with pytest.MonkeyPatch.context() as patch:
    search = search_task.SEARCH._replace(compile=_once(search_task.compile_programs))
    patch.setattr(entry_points, 'SEARCH', search)
    patch.setattr(train_task, 'compile_programs', _once(train_task.compile_programs))
    yield


@contextlib.contextmanager
def nothing_compiled() -> Iterator[None]:
  """Lets runs compile their programs themselves, whichever tests ran before in this process."""
  with mock.patch.dict(_compiled, clear=True):
    yield


def _once(compile_programs: _Compile) -> _Compile:
  def shared(plan: task.Plan) -> task.Programs:
    key = _what_makes_programs(plan)
    if key not in _compiled:
      _compiled[key] = plan, compile_programs(plan)
    made = _compiled[key][1]
    # Copies, as a program counts as compiled once it has been called, and a run says so.
    evaluate = {part: copy.copy(program) for part, program in made.evaluate.items()}
    copied = made._replace(step=copy.copy(made.step), evaluate=evaluate, others={})
    for recipe, (objects, programs) in made.others.items():
      is_first = programs is made
      copied.others[recipe] = (plan.objects, copied) if is_first else (objects, programs)
    return copied

  return shared


def _what_makes_programs(plan: task.Plan) -> tuple[str, ...]:
  free = ('seed', *task.FREE)
  given = sorted(fields.flatten(plan.fields).items())
  own = [id(part) for name, part in vars(plan.parts).items() if name != 'data']
  return (
    repr([(name, value) for name, value in given if not name.startswith(free)]),
    repr(plan.feeds.fingerprint), repr(plan.objects.net), repr(own), repr(plan.settings.devices),
  )  # fmt: skip
