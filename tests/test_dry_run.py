"""`search --dry-run`: what would be done, without compilation and without a file."""

import json

import jax
import pytest

from stretchnas_jax import search
from stretchnas_jax.cli import app
from stretchnas_jax.data.datasets import tfds_sets

DIGITS = ('--config.data.name=digits', '--config.data.image_size=8')


def say(capsys, *words):
  """Runs a search with these words; returns its standard output."""
  app.run(search.prepare, options=search.OPTIONS, kinds=('search',), argv=['search', *words])
  return capsys.readouterr().out


def test_a_dry_run_tells_all_and_writes_nothing(tmp_path, monkeypatch, capsys, root_logger):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(jax, 'jit', None)
  words = ['--config=digits', '--dry-run', '--json', '--workdir=run']
  found = json.loads(say(capsys, *words))
  assert found['edges'] == 14 and found['operations'] == 7
  assert found['steps'] == 30 * 7 and found['parts'] == dict.fromkeys(
    ('train', 'val_alpha', 'val_beta'), 479
  )
  assert found['supernet_params'] == 209_010
  assert [phase['steps'] for phase in found['phases']] == [210]
  assert 'metrics.jsonl' in found['files']
  assert not list(tmp_path.iterdir())
  text = say(capsys, '--config=digits', '--dry-run')
  assert 'supernet  3 cells, C 8, cifar stem, 209,010 weights' in text


def test_a_dry_run_tells_the_phases(capsys, root_logger):
  words = ['--config=p_darts_cifar10', '--config.search.epochs=6', '--dry-run', '--json']
  found = json.loads(say(capsys, *words, *DIGITS))
  assert [phase['num_layers'] for phase in found['phases']] == [5, 11, 17]
  assert [phase['epochs'] for phase in found['phases']] == [2, 2, 2]
  assert [phase['keep'] for phase in found['phases']] == [None, 5, 3]
  assert found['phases'][1]['new'] == ['weights', 'schedule', 'alpha']
  assert found['phases'][2]['fields']['model.skip_dropout'] == 0.7
  # 1,275,834 weights at 3 channels of the image; here it has one.
  assert found['supernet_params'] == 1_275_834 - 9 * 2 * 48


def test_a_dry_run_needs_no_published_data(monkeypatch, capsys, root_logger):
  monkeypatch.setattr(tfds_sets, 'find_builder', missing)
  found = json.loads(say(capsys, '--config=milenas_sc_cifar10:8', '--dry-run', '--json'))
  assert found['missing_data'] == 'cifar10 is not prepared'
  assert found['parts'] == {'train': 16_667, 'val_alpha': 16_667, 'val_beta': 16_666}
  text = say(capsys, '--config=nas_bench_201:darts_first', '--dry-run')
  assert '1,692,826 weights' in text and 'those published: cifar10 is not prepared' in text
  with pytest.raises(SystemExit):
    say(capsys, '--config=milenas_sc_cifar10:8', '--dry-run', '--config.data.path=nowhere')
  assert 'nowhere' in capsys.readouterr().err


def missing(*args):
  raise FileNotFoundError('cifar10 is not prepared')


def test_json_without_a_dry_run_is_refused(capsys, root_logger):
  with pytest.raises(SystemExit):
    say(capsys, '--config=digits', '--json', '--workdir=run')
  assert '--json goes with --dry-run only' in capsys.readouterr().err
