"""Files that commands write: never over a file of somebody else, never over a file of a run."""

import json
import pathlib
import re

import pytest
from PIL import Image

import stretchnas_jax
from stretchnas_jax import draw
from stretchnas_jax.cli import app
from stretchnas_jax.runs import export, outputs


def run_draw(*words):
  app.run(
    draw.prepare,
    config=False,
    options=draw.OPTIONS,
    positional=('genotype',),
    argv=['draw.py', *words],
  )


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def refusal(capsys, *words):
  with pytest.raises(SystemExit) as stopped:
    run_draw(*words)
  assert stopped.value.code == 2
  return capsys.readouterr().err


@pytest.mark.parametrize('name', ['cells.svg', 'cells.png'])
def test_a_drawing_is_replaced_by_a_drawing(name, capsys):
  run_draw('DARTS_V1', f'--out={name}')
  first = pathlib.Path(name).read_bytes()
  run_draw('DARTS_V2', f'--out={name}')
  second = pathlib.Path(name).read_bytes()
  assert second != first
  # A drawing that somebody has worked on is theirs.
  if name.endswith('.svg'):
    pathlib.Path(name).write_bytes(second.replace(b'#ffffff', b'#fffffe'))
  else:
    with Image.open(name) as image:
      image.load()
      image.putpixel((0, 0), (1, 2, 3))
      image.save(name)
  changed = pathlib.Path(name).read_bytes()
  assert f"this program did not write '{name}'" in refusal(capsys, 'DARTS_V1', f'--out={name}')
  assert pathlib.Path(name).read_bytes() == changed
  run_draw('DARTS_V1', f'--out={name}', '--force')
  assert pathlib.Path(name).read_bytes() == first


@pytest.mark.parametrize(
  'content', [b'', b'<svg/>', b'\x89PNG\r\n', b'written by stretchnas_jax, checksum 00000000']
)
def test_files_of_others_stay(content, capsys):
  for name in 'own.svg', 'own.png':
    pathlib.Path(name).write_bytes(content)
    assert 'choose another name; --force' in refusal(capsys, 'DARTS_V1', f'--out={name}')
    assert pathlib.Path(name).read_bytes() == content


def test_files_of_a_run_are_never_replaced(capsys):
  run = pathlib.Path('run')
  (run / 'checkpoints').mkdir(parents=True)
  for name in 'config.json', 'run.json':
    (run / name).write_text('{}')
  pathlib.Path('link.svg').symlink_to(run / 'cells.svg')
  for out in 'run/cells.svg', 'link.svg', 'run/checkpoints/cells.svg':
    words = refusal(capsys, 'DARTS_V1', f'--out={out}', '--force')
    assert re.search("is a file of the run in '.*run': choose another name", words)
  run_draw('DARTS_V1', '--out=run/mine.svg')
  assert {path.name for path in run.iterdir()} == {
    'checkpoints', 'config.json', 'run.json', 'mine.svg'
  }  # fmt: skip


def test_a_folder_is_no_file(capsys):
  pathlib.Path('x.svg').mkdir()
  assert 'which is a folder: name a file' in refusal(capsys, 'DARTS_V1', '--out=x.svg')


def exported(content, described):
  """Writes an export by hand, as `export_trained` does."""
  pathlib.Path('m.stablehlo').write_bytes(content)
  text = json.dumps({**described, 'about': outputs.MARK})
  pathlib.Path('m.json').write_bytes(outputs.marked(text.encode()))


def test_an_export_knows_its_own_files():
  digest = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
  export.check_path('m.stablehlo')
  exported(b'abc', {'sha256': digest})
  export.check_path('m.stablehlo')
  exported(b'another program', {'sha256': digest})
  with pytest.raises(ValueError, match="did not write 'm.stablehlo'"):
    export.check_path('m.stablehlo')
  export.check_path('m.stablehlo', force=True)
  exported(b'abc', {'sha256': digest})
  pathlib.Path('m.json').write_text(pathlib.Path('m.json').read_text().replace('ba', 'bb'))
  with pytest.raises(ValueError, match='did not write'):
    export.check_path('m.stablehlo')


def test_an_export_beside_a_json_file_of_somebody_is_refused():
  pathlib.Path('package.json').write_text('{"name": "mine"}')
  with pytest.raises(ValueError, match="--out is 'package.stablehlo', and this program did not wr"):
    stretchnas_jax.export_trained('absent', 'package.stablehlo')
  assert pathlib.Path('package.json').read_text() == '{"name": "mine"}'


def test_an_export_named_after_a_file_of_a_run_is_refused():
  pathlib.Path('config.json').write_text('{}')
  pathlib.Path('run.json').write_text('{}')
  for name in 'config.stablehlo', 'result.stablehlo', 'checkpoints':
    with pytest.raises(ValueError, match='is a file of the run in'):
      export.check_path(name, force=True)
