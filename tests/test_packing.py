"""Archives of finished runs: they count elsewhere, and lose nothing."""

import pathlib
import tarfile

import pytest
from small_experiment import SMALL_EXPERIMENT, canned

from stretchnas_jax.sweeps import program


def call(verb, folder, out, *words):
  argv = ['small', verb, '--scale=paper', f'--folder={folder}', f'--out={out}', *words]
  program.main(SMALL_EXPERIMENT, argv)


def files_in(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()
  }


def test_unpacked_runs_are_finished_elsewhere(tmp_path, capsys):
  here, there = tmp_path / 'here', tmp_path / 'there'
  canned(here)
  run = here / 'trainings' / 'learned-L8-3.5M' / 'seed_1'
  for name in ('checkpoints/9/state', 'checkpoints.json', '.lock'):
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text('large')
  unfinished = here / 'trainings' / 'learned-L8-3.5M' / 'seed_2'
  unfinished.mkdir()
  (unfinished / 'run.json').write_text('{}')
  searches = next(iter(sorted((here / 'searches').iterdir())))
  (searches / 'config.json').write_text('{"seeds": [0, 1]}')
  call('pack', here, tmp_path)
  archive = tmp_path / 'small.tar.xz'
  # Two seeds searched and trained and three of the zoo, of ten; and 24 candidates for each of three
  # random cells.
  assert f'{archive}: 7 of {3 * 4 + 24 * 3} runs' in capsys.readouterr().out
  assert not list(tmp_path.glob('*.part'))
  with tarfile.open(archive) as packed:
    packed.extractall(there, filter='data')
  kept = files_in(there)
  left = {'checkpoints/9/state', 'checkpoints.json', '.lock'}
  gone = {str((run / name).relative_to(here)) for name in left}
  gone.add(str((unfinished / 'run.json').relative_to(here)))
  assert files_in(here).keys() - kept.keys() == gone
  assert kept.items() <= files_in(here).items()
  assert str((searches / 'config.json').relative_to(here)) in kept
  pages = []
  for folder in here, there:
    call('list', folder, tmp_path)
    listed = capsys.readouterr().out.replace(str(folder), 'F')
    call('collect', folder, tmp_path)
    pages.append((listed, capsys.readouterr().out))
  assert pages[0] == pages[1] and '# finished' in pages[0][0]


def test_the_same_runs_give_the_same_bytes(tmp_path):
  for name in 'ab':
    canned(tmp_path / name)
    call('pack', tmp_path / name, tmp_path / f'out_{name}')
  first, second = ((tmp_path / f'out_{name}' / 'small.tar.xz').read_bytes() for name in 'ab')
  assert first == second
  call('pack', tmp_path / 'a', tmp_path / 'out_a')
  assert (tmp_path / 'out_a' / 'small.tar.xz').read_bytes() == first


def refused(capsys, *args):
  with pytest.raises(SystemExit) as stop:
    call('pack', *args)
  assert stop.value.code == 2
  return capsys.readouterr().err


def test_an_archive_never_loses_runs(tmp_path, capsys):
  canned(tmp_path / 'all')
  call('pack', tmp_path / 'all', tmp_path)
  archive = tmp_path / 'small.tar.xz'
  before = archive.read_bytes()
  said = refused(capsys, tmp_path / 'all', tmp_path, '--only=zoo')
  assert f'tar -xf {archive} -C {tmp_path / "all"}' in said and 'learned' in said
  assert 'nothing to pack' in refused(capsys, tmp_path / 'none', tmp_path)
  assert archive.read_bytes() == before


@pytest.mark.parametrize('content', [b'', b'no archive', 'half'])
def test_a_file_that_is_no_archive_is_not_overwritten(tmp_path, capsys, content):
  canned(tmp_path / 'all')
  archive = tmp_path / 'small.tar.xz'
  if content == 'half':
    call('pack', tmp_path / 'all', tmp_path)
    content = archive.read_bytes()[:200]
  pathlib.Path(archive).write_bytes(content)
  assert 'is not an archive' in refused(capsys, tmp_path / 'all', tmp_path)
  assert archive.read_bytes() == content
