"""A field that a later version adds does not stop a run from resuming."""

import json
import shutil

import pytest
from helpers import SKIP_SPACE, tiny_search, without_clock
from ml_collections import ConfigDict

import stretchnas_jax
from stretchnas_jax import config as config_lib
from stretchnas_jax.runs import fields, search_task

OWN = {'space': SKIP_SPACE}  # it compiles fast
FIXTURES = __file__.replace('test_absent_fields.py', 'fixtures/runs_0_1')

pytestmark = pytest.mark.usefixtures('shared_programs')


def stop(line, state):
  return True


@pytest.fixture
def later(monkeypatch):
  """A later version of the package: searches have one field and one group more."""
  before = config_lib.search_config

  def search_config() -> ConfigDict:
    config = before()
    config.relaxation.later = 1.0
    config.imagined = ConfigDict({'params': 0.0})
    return config

  monkeypatch.setattr(config_lib, 'search_config', search_config)
  monkeypatch.setattr(
    'stretchnas_jax.runs.entry_points.SEARCH',
    search_task.SEARCH._replace(defaults=search_config),
  )
  return search_config


def with_later_fields(config: ConfigDict, **fields: float) -> ConfigDict:
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.relaxation.later = fields.get('later', 1.0)
    config.imagined = ConfigDict({'params': 0.0})
  return config


def test_a_run_from_before_a_new_field_resumes_to_the_same_end(tmp_path, request):
  config = tiny_search()
  stretchnas_jax.run_search(config, tmp_path / 'whole', parts=OWN)
  stretchnas_jax.run_search(config, tmp_path / 'run', parts=OWN, on_epoch=stop)
  request.getfixturevalue('later')
  made_with = json.loads((tmp_path / 'run' / 'config.json').read_text('utf-8'))
  found = stretchnas_jax.run_search(with_later_fields(config), tmp_path / 'run', parts=OWN)
  assert found is not None
  assert without_clock(tmp_path / 'run' / 'metrics.jsonl') == without_clock(
    tmp_path / 'whole' / 'metrics.jsonl'
  )
  # The run keeps the fields with which it was made.
  assert json.loads((tmp_path / 'run' / 'config.json').read_text('utf-8')) == made_with


def test_a_new_field_with_another_value_is_named(tmp_path, request):
  stretchnas_jax.run_search(tiny_search(), tmp_path / 'run', parts=OWN, on_epoch=stop)
  request.getfixturevalue('later')
  changed = with_later_fields(tiny_search(), later=0.1)
  with pytest.raises(ValueError, match='relaxation.later=1.0, now 0.1'):
    stretchnas_jax.run_search(changed, tmp_path / 'run', parts=OWN)


@pytest.mark.parametrize('kind', ['search', 'train'])
def test_the_kept_runs_of_0_1_resume_with_every_field_of_today(kind, tmp_path, capsys):
  """They are finished, so resuming says so; without their result they end again at once."""
  path = tmp_path / kind
  shutil.copytree(f'{FIXTURES}/{kind}', path)
  values = json.loads((path / 'config.json').read_text('utf-8'))
  cell = values.pop('genotype', None)
  like = config_lib.search_config() if kind == 'search' else config_lib.train_config()
  config = config_lib.updated(like, values)
  before = (path / 'metrics.jsonl').read_bytes()
  absent = set(fields.flatten(config.to_dict())) - set(fields.flatten(values))
  assert kind == 'train' or absent  # a field of today that these runs lack
  if kind == 'search':
    run = lambda: stretchnas_jax.run_search(config, path)
  else:
    genotype = stretchnas_jax.Genotype.from_dict(cell)
    run = lambda: stretchnas_jax.run_train(config, path, genotype)
  (path / 'result.json').unlink(missing_ok=True)
  result = run()
  assert result['epochs'] == values[kind]['epochs']
  assert 'resumed at step' in capsys.readouterr().err
  assert (path / 'metrics.jsonl').read_bytes() == before
