"""Programs that compile once for all devices, and pieces of work beside each other on them."""

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.cli import errors
from stretchnas_jax.machine import lanes, measure, output, parallel, portable, stopping


def step(state, batch, key, *, axis_name):
  del axis_name
  return {'w': jnp.tanh(state['w'] @ batch) + jax.random.normal(key, (4, 4))}


def outcome(program, place):
  state = place.replicate({'w': np.eye(4, dtype=np.float32)})
  key = place.replicate(jax.random.key(0))
  for i in range(3):
    state = program(state, np.full((4, 4), 0.1 * i, np.float32), key)
  return state['w']


@pytest.mark.parametrize('backend', parallel.BACKENDS)
def test_a_program_compiles_once_and_has_the_same_bits_on_all_devices(backend, monkeypatch):
  """Loading for another device uses private parts of JAX: a later JAX may have moved them."""
  places = [parallel.Devices(backend, (d,), portable=True) for d in jax.devices()]
  program = places[0].compile(step)
  monkeypatch.setattr(program, '_make', None)  # a second compilation would call it
  wanted = np.asarray(outcome(parallel.Devices(backend, (jax.devices()[0],)).compile(step),
                              places[0]))  # fmt: skip
  for place in reversed(places):  # another device than that of the program may come first
    found = outcome(program, place)
    assert found.devices() == set(place.devices)
    np.testing.assert_array_equal(np.asarray(found), wanted)


def test_a_program_that_cannot_be_serialised_compiles_once_more(monkeypatch, caplog):
  def refuse(compiled, device):
    raise ValueError('not here')

  monkeypatch.setattr(portable, 'load_on', refuse)
  places = [parallel.Devices('single', (d,), portable=True) for d in jax.devices()[:2]]
  program = places[0].compile(step)
  first, second = (np.asarray(outcome(program, place)) for place in places)
  np.testing.assert_array_equal(first, second)
  assert 'a program is compiled once more' in caplog.text


def test_threads_that_come_together_compile_once():
  places = [parallel.Devices('single', (d,), portable=True) for d in jax.devices()]
  program = places[0].compile(lambda *args, axis_name: step(*args, axis_name=None))
  arguments = [(p.replicate({'w': jnp.eye(4)}), jnp.eye(4), jax.random.key(0)) for p in places]
  with measure.compilation() as compiled:
    threads = [threading.Thread(target=program, args=args) for args in arguments]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  assert len(compiled.seconds) == 1


def test_pieces_share_the_devices_and_what_they_say_has_their_names(capfd):
  began = threading.Barrier(2, timeout=20)

  def work(number, device):
    if number < 2:
      began.wait()  # both devices are at work
    output.say(f'first line\nof {number}')
    assert jnp.zeros(1).devices() == {device}
    return number

  assert lanes.run(list('abc'), jax.devices()[:2], work) == [0, 1, 2]
  said = capfd.readouterr().err.splitlines()
  assert {'a: of 0', 'b: of 1', 'c: first line'} <= set(said) and not output.label()


def test_a_piece_that_fails_is_named_and_raised_last(capfd):
  done = []

  def work(number, device):
    if number == 0:
      raise FloatingPointError('train_loss is nan')
    done.append(number)

  with pytest.raises(FloatingPointError, match='nan'):
    lanes.run(list('abc'), jax.devices()[:1], work)
  assert done == [1, 2]
  assert capfd.readouterr().err == 'a: failed, and the others go on: train_loss is nan\n'


def test_a_signal_stops_all_pieces_and_begins_none(capfd):
  def work(number, device):
    with stopping.requests() as request:
      os.kill(os.getpid(), signal.SIGUSR1)
      while request.number is None:
        pass
      raise stopping.Stopped('saved', request.number)

  with pytest.raises(stopping.Stopped, match='0 of 3 are done') as stop:
    lanes.run(list('abc'), jax.devices()[:1], work)
  assert stop.value.exit_code == 128 + signal.SIGUSR1
  assert 'a: saved' in capfd.readouterr().err


def test_too_little_memory_names_the_field_that_spreads_batches():
  assert 'parallel.seeds' in errors.memory_advice(MemoryError(), {'search', 'parallel'})
