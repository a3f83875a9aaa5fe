"""The forms of a supernet side by side: in turn, from empty caches, and as a table."""

import json
import subprocess

import pytest

from experiments.benchmarks import forms, processes
from stretchnas_jax import benchmark
from stretchnas_jax.cli import command_line


class Seen(list):
  failing = None  # a form


@pytest.fixture
def fake(monkeypatch):
  """Processes that do not run; gives the words of each. Those of the form `failing` fail."""
  seen = Seen()

  def run(words, timeout):
    seen.append(words)
    if f'--config.model.form={seen.failing}' in words:
      if '--config.model.remat=True' in words:
        raise subprocess.TimeoutExpired('python', timeout)
      raise RuntimeError('it ended with 2:\nrefused | here')
    return {
      'median_step_seconds': float(len(seen)), 'trace_seconds': 4.0, 'compile_seconds': 20.0,
      'step_memory_mb': 120.0, 'peak_memory_mb': 900.0 + len(seen),
    }  # fmt: skip

  monkeypatch.setattr(processes, 'benchmark', run)
  return seen


def test_all_forms_take_turns(fake, tmp_path, capsys):
  words = ['--rows=digits', '--forms=planes;merged, remat', '--rounds=2', f'--out={tmp_path}']
  forms.main(words)
  said = [[w for w in words if 'model.form' in w or 'remat' in w] for words in fake]
  planes, merged = (list(forms.FORMS[name]) for name in ('planes', 'merged, remat'))
  assert said == [planes, merged, merged, planes]
  text = (tmp_path / 'forms.md').read_text()
  assert text in capsys.readouterr().out
  lines = [line for line in text.splitlines() if line.startswith('|')]
  assert len({line.count('|') for line in lines}) == 1
  # Ratios are taken within a round: 2 / 1 and 3 / 4.
  assert lines[2] == '| planes | 2.5 (1 - 4) | **1.00** (1.00 - 1.00) | 4 + 20 | 120 | 904 |'
  assert lines[3] == (
    '| merged, remat | 2.5 (2 - 3) | **1.38** (0.75 - 2.00) | 4 + 20 | 120 | 903 |'
  )
  found = json.loads((tmp_path / 'forms.json').read_text())
  assert len(found['rows']['digits']['forms']['planes']) == 2 and found['versions']['jax']


@pytest.mark.parametrize('failing, other', [('merged', 'planes'), ('planes', 'merged')])
def test_a_form_that_fails_is_a_line_of_the_table_and_is_not_tried_again(
  failing, other, fake, tmp_path
):
  fake.failing = failing
  forms.main(['--rows=digits', '--rounds=3', '--limit=7', f'--out={tmp_path}'])
  assert len(fake) == 2 * 3 + 2
  lines = (tmp_path / 'forms.md').read_text().splitlines()
  assert f'| {failing} | failed: refused / here | - | - | - | - |' in lines
  assert f'| {failing}, remat | not done after 7 s | - | - | - | - |' in lines
  assert any(
    line.startswith(f'| {other} | ') and '**1.00** (1.00 - 1.00)' in line for line in lines
  )


def test_the_words_are_those_of_a_config(fake, tmp_path, monkeypatch):
  monkeypatch.chdir(processes.ROOT)
  forms.main(['--rows=stretchable', '--rounds=1', f'--out={tmp_path}'])
  assert len(fake) == len(forms.FORMS) == 4
  options = command_line.start_options(True, False) + benchmark.OPTIONS
  models = [
    command_line.parse(['benchmark', *words], True, options, ()).config.model for words in fake
  ]
  assert {(model.form, model.remat) for model in models} == {
    (form, remat) for form in ('planes', 'merged') for remat in (False, True)
  }


@pytest.mark.parametrize('words', [['--rows=train'], ['--forms=tiles'], ['--rounds=0']])
def test_wrong_words_are_refused(words):
  with pytest.raises(SystemExit) as stop:
    forms.parse(words)
  assert stop.value.code == 2
