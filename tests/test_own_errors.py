"""Errors of own parts: one sentence before the folder is made, or at the end of an epoch."""

import flax.linen as nn
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax import run_search
from stretchnas_jax.cells import relaxation, space
from stretchnas_jax.learning import bilevel
from stretchnas_jax.learning.monitors import Monitor
from stretchnas_jax.learning.rules import Pass, Rule
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import own_parts, parts, search_task

POOLS = {'space': helpers.POOL_SPACE}
SOFTMAX = relaxation.softmax()
HERE = r'test_own_errors.py, line \d+: '


class Dropped(nn.Module):
  """An operation that draws in training, which needs a key that no operation has."""

  channels: int
  stride: int

  @nn.compact
  def __call__(self, x, train):
    return nn.Dropout(0.5, deterministic=not train)(x[:, :: self.stride, :: self.stride])


def reads(name):
  """Returns an own rule that takes the loss of one part of the batch."""
  return lambda loss_fn, params, arch, batch: jax.grad(loss_fn, 1)(
    params, arch, getattr(batch, name)
  )


def spoilt(arch, op_weights, edge_scores, knobs):
  raise KeyError('decided')


CASES = {
  'operation': (
    {
      'space': space.SearchSpace(helpers.POOL_SPACE.graph, ('skip_connect', 'dropped')),
      'operations': {'dropped': Dropped},
    },
    'InvalidRngError: Dropout_0 needs PRNG',
  ),
  'weights': (
    {'relaxation': SOFTMAX._replace(weights=lambda alpha, key, knobs: alpha[0])},
    r'relaxation.weights returns \[2\]; it must be \[5, 2\]',
  ),
  'mean': (
    {'relaxation': SOFTMAX._replace(mean=lambda alpha, knobs: alpha[0])},
    r'relaxation.mean returns \[2\]; it must be \[5, 2\]',
  ),
  'strength': (
    {'relaxation': SOFTMAX._replace(strength=lambda alpha, knobs: np.full((5, 2), np.nan))},
    'holds a value that is not finite',
  ),
  'rule': (
    {'rule': lambda loss_fn, params, arch, batch: params},
    'the rule returns a dict; it must be an Arch',
  ),
  'part of the batch': (
    {'rule': reads('val_beta')},
    'the rule takes the loss of a part that the batch does not have: config.data.split',
  ),
  'pass': (
    {'rule': Rule(passes=lambda batch, knobs: [Pass('val_beta', 1.0, 1.0)])},
    'the rule takes val_beta of the batch, which has train, val_alpha here',
  ),
  'penalty': ({'penalties': (spoilt,)}, HERE + "KeyError: 'decided'"),
  'knobs': ({'knobs': lambda step: {'t': jnp.zeros(2)}}, r'the knob t has the shape \[2\]'),
  'decoding': ({'decoding': lambda *args: ([], 1 / 0)}, HERE + 'ZeroDivisionError'),
}


@pytest.mark.parametrize('case', CASES)
def test_an_error_of_an_own_part_is_one_sentence_before_the_folder_is_made(
  tmp_path, unchecked, case
):
  own, words = CASES[case]
  config = helpers.tiny_search(**{'data.split': 'two_way'})
  with pytest.raises(faults.Fault, match=words):
    run_search(config, tmp_path / 'run', parts=POOLS | own)
  assert not (tmp_path / 'run').exists()


def predicted(arch, op_weights, edge_scores, knobs):
  """A penalty that asks a linen module of its own."""
  return nn.Dense(1).apply(DENSE, op_weights['normal']).sum()


DENSE = {'params': {'kernel': np.ones((2, 1), np.float32), 'bias': np.zeros(1, np.float32)}}


def test_an_own_part_may_have_a_module_of_its_own():
  own = parts.Parts.of(POOLS | {'penalties': (predicted,)})
  search_task.plan_search(helpers.tiny_search(), own).close()


def test_an_error_inside_the_package_keeps_its_trace_below_own_code():
  names = {}
  exec(compile("def inside():\n  return {}['x']", faults.__file__, 'exec'), names)
  with pytest.raises(KeyError), faults.in_own_code():
    names['inside']()


def test_an_own_part_of_a_later_phase_fails_before_the_first_one(tmp_path):
  given = ({'epochs': 1}, {'epochs': 1, 'parts': {'penalties': (spoilt,)}})
  with pytest.raises(faults.Fault, match=r'search.phases\[1\]: .*' + HERE + "KeyError: 'decided'"):
    run_search(helpers.tiny_search(), tmp_path / 'run', parts=POOLS | {'phases': given})
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'rule', [reads('train'), bilevel.second_order(), bilevel.one_level()], ids=['own', 'ahead', 'one']
)
@pytest.mark.parametrize('name, form', [('darts', 'planes'), ('nas_bench_201', 'merged')])
def test_right_own_parts_of_every_network_pass(monkeypatch, name, form, rule):
  """A check never refuses what runs: all kinds of rules, logits of each layer, and random draws."""
  traced, trace = [], own_parts._trace
  monkeypatch.setattr(own_parts, '_trace', lambda plan: traced.append(trace(plan)))
  layers = 3 if name == 'darts' else 1
  fields = {'space.name': name, 'model.form': form, 'model.num_layers': layers, 'model.remat': True}
  knobs = lambda step: {'edge_drop': 0.1, 'skip_dropout': 0.1}
  mixing = SOFTMAX._replace(per_layer=True)
  own = parts.Parts(relaxation=mixing, rule=rule, knobs=knobs)
  search_task.plan_search(helpers.tiny_search(**fields), own).close()
  assert len(traced) == 1


def test_a_search_without_own_parts_traces_nothing(monkeypatch):
  monkeypatch.setattr(own_parts, '_trace', lambda plan: 1 / 0)
  search_task.plan_search(helpers.tiny_search()).close()
  search_task.plan_search(helpers.tiny_search(), parts.Parts(monitors=(WRONG,))).close()


WRONG = Monitor(
  lambda space: {'stop': False}, lambda arch, control, line, genotype: {'stop': line['accuracy']}
)


def test_an_error_of_an_own_monitor_at_work_names_its_line(tmp_path):
  with pytest.raises(faults.Fault, match=HERE + "KeyError: 'accuracy'"):
    run_search(
      helpers.tiny_search(**{'search.epochs': 1}),
      tmp_path / 'run',
      parts=POOLS | {'monitors': (WRONG,)},
    )


def test_an_error_outside_of_own_code_keeps_its_trace():
  program = compile("with in_own_code():\n  {}['x']", '<package>', 'exec')
  with pytest.raises(KeyError):
    exec(program, {'in_own_code': faults.in_own_code})


def test_the_line_of_an_own_part_in_a_config_file_is_named(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text("""
from stretchnas_jax.config import search_config as get_config
def spoilt(arch, op_weights, edge_scores, knobs):
  return knobs['decide']
def get_parts(config):
  return {'penalties': (spoilt,)}
""")
  own = parts.from_config_file(path, helpers.tiny_search())
  with pytest.raises(faults.Fault, match=rf"{path}, line 4: KeyError: 'decide'"):
    search_task.plan_search(helpers.tiny_search(), own)
