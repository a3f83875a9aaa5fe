"""Genotypes by name, by file and by folder."""

import pytest

from stretchnas_jax import inputs
from stretchnas_jax.architecture import genotype, zoo

V2 = zoo.GENOTYPES['DARTS_V2']


def test_a_name_a_file_of_either_form_and_a_folder_give_the_same(tmp_path):
  (tmp_path / 'genotype.json').write_text(genotype.to_json(V2))
  (tmp_path / 'v2.txt').write_text(f'\n  {genotype.to_darts_text(V2)}\n')
  assert inputs.genotype_from('DARTS_V2') == V2
  assert inputs.genotype_from(str(tmp_path / 'genotype.json')) == V2
  assert inputs.genotype_from(tmp_path / 'v2.txt') == V2
  assert inputs.genotype_from(tmp_path) == V2


def test_what_is_not_there_is_named_with_what_there_is(tmp_path):
  with pytest.raises(FileNotFoundError, match="'DARTS_V9' is no file.*zoo: .*DARTS_V2"):
    inputs.genotype_from('DARTS_V9')
  with pytest.raises(FileNotFoundError, match='holds no genotype.json: no search has finished'):
    inputs.genotype_from(tmp_path)


@pytest.mark.parametrize(
  'content', [b'', b'{', b'{"normal": 3}', b'Genotype(', b'\xff\xfe\x00', b'[1]']
)
def test_a_file_that_is_no_genotype_is_named(tmp_path, content):
  path = tmp_path / 'g.json'
  path.write_bytes(content)
  with pytest.raises(ValueError, match='g.json: '):
    inputs.genotype_from(path)
