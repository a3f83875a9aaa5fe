"""Cells by name, by file, by folder, by epoch and drawn at random."""

import json

import pytest

from stretchnas_jax.cells import genotype, random_cells, zoo
from stretchnas_jax.runs import find_cell

V2 = zoo.GENOTYPES['DARTS_V2']


def test_a_name_a_file_in_either_form_and_a_folder_give_the_same_cell(tmp_path):
  (tmp_path / 'genotype.json').write_text(genotype.to_json(V2))
  (tmp_path / 'v2.txt').write_text(f'\n  {genotype.to_darts_text(V2)}\n')
  assert find_cell.genotype_from('DARTS_V2') == V2
  assert find_cell.genotype_from(str(tmp_path / 'genotype.json')) == V2
  assert find_cell.genotype_from(tmp_path / 'v2.txt') == V2
  assert find_cell.genotype_from(tmp_path) == V2


def test_a_missing_cell_is_named_with_the_known_ones(tmp_path):
  with pytest.raises(
    FileNotFoundError, match="'DARTS_V9' is neither a file nor a cell of the zoo; .*DARTS_V2"
  ):
    find_cell.genotype_from('DARTS_V9')
  with pytest.raises(FileNotFoundError, match='holds no genotype.json: no search has finished'):
    find_cell.genotype_from(tmp_path)


@pytest.mark.parametrize(
  'content', [b'', b'{', b'{"normal": 3}', b'Genotype(', b'\xff\xfe\x00', b'[1]']
)
def test_a_file_without_a_genotype_is_named(tmp_path, content):
  path = tmp_path / 'g.json'
  path.write_bytes(content)
  with pytest.raises(ValueError, match='g.json: '):
    find_cell.genotype_from(path)


def test_a_file_of_many_a_log_a_wide_text_and_a_text_itself(tmp_path, caplog, monkeypatch):
  caplog.set_level('INFO')
  text = genotype.to_darts_text(V2)
  file = tmp_path / 'my (1)' / 'genotypes.py'
  file.parent.mkdir()
  file.write_text(f'A = {genotype.to_darts_text(zoo.GENOTYPES["DARTS_V1"])}\nB = {text}\nC = B\n')
  assert find_cell.genotype_from(f'{file}:B') == find_cell.genotype_from(f'{file}:C') == V2
  assert f'{file}: a cell in DARTS' in caplog.text
  with pytest.raises(ValueError, match='there are 2 genotypes, A, B: choose one') as error:
    find_cell.genotype_from(file)
  assert f'{file}:A' in str(error.value)
  with pytest.raises(ValueError, match="no genotype is called 'D'"):
    find_cell.genotype_from(f'{file}:D')
  (tmp_path / 'log.txt').write_bytes(b'\xff epoch 1\n' + f'genotype = {text}\n'.encode())
  assert find_cell.genotype_from(tmp_path) == V2
  (tmp_path / 'wide.txt').write_text(text, encoding='utf-16')
  assert find_cell.genotype_from(tmp_path / 'wide.txt') == V2
  assert find_cell.genotype_from(text) == find_cell.genotype_from(f'x = {text}') == V2
  assert find_cell.genotype_from(json.dumps(V2.to_dict())) == V2
  assert find_cell.run_of(text) is None
  for wrong in ('x' * 5000, 'a\0b', text[:200], '[' * 5000):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
      find_cell.genotype_from(wrong)
    assert 'too long' not in str(error.value) and len(str(error.value)) < 500
  monkeypatch.setattr(find_cell, '_READ_BYTES', len(text) + 20)
  (tmp_path / 'long.log').write_text('x\n' * 1000 + text)
  assert find_cell.genotype_from(tmp_path / 'long.log') == V2


def test_a_folder_of_several_searches_names_them(tmp_path):
  for seed in range(2):
    (tmp_path / f'seed_{seed}').mkdir()
    (tmp_path / f'seed_{seed}' / 'genotype.json').write_text(genotype.to_json(V2))
  with pytest.raises(FileNotFoundError, match='name one of its runs: .*seed_0, .*seed_1$'):
    find_cell.genotype_from(tmp_path)
  (tmp_path / 'genotypes.jsonl').write_text('')
  with pytest.raises(FileNotFoundError, match='@EPOCH names the cell after an epoch'):
    find_cell.genotype_from(tmp_path)


# ---- cells at random, cells of an epoch ----------------------------------------------------------


def test_random_cells(tmp_path):
  assert find_cell.genotype_from('random:3') == random_cells.random_cell(3)
  drawn = random_cells.random_operations(V2, 4)
  assert find_cell.genotype_from('random_ops:DARTS_V2:4') == drawn
  folder = tmp_path / 'with:colon'
  folder.mkdir()
  (folder / 'genotype.json').write_text(genotype.to_json(V2))
  assert find_cell.genotype_from(f'random_ops:{folder}:4') == drawn
  assert find_cell.genotype_from(f'random_ops:{folder / "genotype.json"}:4') == drawn
  again = random_cells.random_operations(random_cells.random_cell(3), 4)
  assert find_cell.genotype_from('random_ops:random:3:4') == again


@pytest.mark.parametrize(
  'text, words',
  [
    ('random:', "the seed in 'random:' is ''; it must be a whole number"),
    ('random:-1', "is '-1'; it must be a whole number"),
    ('random:1.5', "is '1.5'"),
    ('random_ops:', 'the form is random_ops:CELL:SEED'),
    ('random_ops:DARTS_V2', 'the form is random_ops:CELL:SEED'),
    ('random_ops:DARTS_V2:x', "the seed in 'random_ops:DARTS_V2:x' is 'x'"),
    ('random_ops:DARTS_V9:1', "'DARTS_V9' is neither a file nor a cell of the zoo"),
  ],
)
def test_a_wrong_name_of_a_random_cell_is_named(text, words):
  with pytest.raises((ValueError, OSError), match=words):
    find_cell.genotype_from(text)


@pytest.fixture
def run(tmp_path):
  """A search with three whole lines, two of them without a genotype, and a torn line."""
  folder = tmp_path / 'a@b'
  folder.mkdir()
  line = lambda epoch, cell: json.dumps({'step': 9 * epoch, 'epoch': epoch, 'genotype': cell})
  found = V2.to_dict()
  lines = [line(1, found), line(2, {'normal': []}), line(4, 'text'), line(3, found)[:60]]
  (folder / 'genotypes.jsonl').write_text('\n'.join(lines))
  return folder


def test_the_cell_of_an_epoch(run):
  assert find_cell.genotype_from(f'{run}@1') == V2
  assert find_cell.genotype_from(f'random_ops:{run}@1:5') == random_cells.random_operations(V2, 5)


@pytest.mark.parametrize(
  'epoch, words',
  [
    ('0', 'holds no cell of epoch 0; its epochs are 1, 2, 4$'),
    ('3', 'genotypes.jsonl holds no cell of epoch 3; its epochs are 1, 2, 4$'),
    ('2', 'genotypes.jsonl, epoch 2: normal_concat is missing'),
    ('4', 'genotypes.jsonl, epoch 4: the line holds no genotype'),
    ('last', "the epoch in .* is 'last'; it must be a whole number"),
    ('', "is ''; it must be a whole number"),
  ],
)
def test_a_missing_epoch_is_named(run, epoch, words):
  with pytest.raises(ValueError, match=words):
    find_cell.genotype_from(f'{run}@{epoch}')


def test_a_missing_run_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='x holds no genotypes.jsonl: no search has run'):
    find_cell.genotype_from(f'{tmp_path / "x"}@3')


def test_the_home_has_its_short_name_in_a_cell_too(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'genotype.json').write_text(genotype.to_json(V2))
  assert find_cell.genotype_from('~/run') == find_cell.genotype_from('~/run/genotype.json') == V2


def test_a_cell_that_was_changed_after_its_run_is_named(tmp_path):
  (tmp_path / 'genotype.json').write_text(genotype.to_json(V2))
  (tmp_path / 'result.json').write_text(json.dumps({'genotype': V2.to_dict()}))
  assert find_cell.genotype_from(tmp_path) == V2
  other = genotype.to_json(V2).replace('sep_conv_5x5', 'sep_conv_3x3').replace('max', 'avg')
  (tmp_path / 'genotype.json').write_text(other)
  with pytest.raises(ValueError, match='holds another cell than result.json beside it'):
    find_cell.genotype_from(tmp_path)


def test_the_best_training_has_the_highest_validation_accuracy(tmp_path):
  for name, score in (('0', 0.5), ('1', 0.9), ('2', 0.9)):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text('{}')
    result = {'last_val_accuracy': score, 'best_val_accuracy': 1.0, 'test_accuracy': 1 - score}
    (tmp_path / name / 'result.json').write_text(json.dumps(result))
    cell = random_cells.random_cell(int(name))
    (tmp_path / name / 'genotype.json').write_text(genotype.to_json(cell))
  best = f'best:{tmp_path}'
  assert find_cell.genotype_from(best) == random_cells.random_cell(1)
  (tmp_path / '0' / 'result.json').write_text('{}')
  with pytest.raises(ValueError, match='0 has no last_val_accuracy: set config.data.holdout'):
    find_cell.genotype_from(best)
  (tmp_path / '0' / 'result.json').unlink()
  with pytest.raises(FileNotFoundError, match='0 holds no result.json: its training has not'):
    find_cell.genotype_from(best)
  with pytest.raises(FileNotFoundError, match='holds no folders of trainings'):
    find_cell.genotype_from(f'best:{tmp_path / "nothing"}')
