"""Tests of tables of labels beside images."""

import pytest
from PIL import Image

from stretchnas_jax.data.datasets import folder


@pytest.fixture
def put(tmp_path):
  """Makes images, and writes tables."""

  def put(*images, **tables):
    for name in images:
      (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
      Image.new('RGB', (8, 8)).save(tmp_path / name, 'PNG')
    for name, text in tables.items():
      path = tmp_path / name.replace('__', '/')
      path.with_suffix('.csv').write_text(text, 'utf-8')
    return tmp_path

  return put


IMAGES = ['1.png', '2.png', '10.png', 'deep/x, y.png']


def test_a_table_names_images_and_labels(put):
  table = 'file,label\n10.png,dog\n"deep/x, y.png",cat\n1.png,"big ""dog"""\n\n2.png,dog\n'
  found = folder.find(put(*IMAGES, labels=table))
  assert found.class_names == ('big "dog"', 'cat', 'dog')
  assert found.files == {'train': [('1.png', 0), ('deep/x, y.png', 1), ('10.png', 2), ('2.png', 2)]}
  assert not found.sentences()


def test_a_table_of_any_name_may_be_the_path(put):
  root = put('1.png', '2.png', Notes='file,label\n1.png,a\n2.png,b\n')
  with pytest.raises(ValueError, match='has no class folders'):
    folder.find(root)
  assert folder.find(root / 'Notes.csv').files == {'train': [('1.png', 0), ('2.png', 1)]}


def test_a_table_may_have_absolute_names(put, tmp_path, monkeypatch):
  first, second = tmp_path / '1.png', tmp_path / 'deep' / 'x, y.png'
  put(*IMAGES, labels=f'file,label\n{first},a\n"{second}",b\n')
  monkeypatch.chdir(tmp_path.parent)
  for root in tmp_path, tmp_path.name:
    assert folder.find(root).files == {'train': [('1.png', 0), ('deep/x, y.png', 1)]}


def test_labels_that_are_numbers_are_sorted_as_numbers(put):
  found = folder.find(put(*IMAGES[:3], labels='file,label\n1.png,10\n2.png,9\n10.png,2\n'))
  assert found.class_names == ('2', '9', '10')
  assert found.files['train'] == [('10.png', 0), ('2.png', 1), ('1.png', 2)]
  found = folder.find(put(*IMAGES[:3], labels='file,label\n1.png,10\n2.png,9\n10.png,x\n'))
  assert found.class_names == ('10', '9', 'x')


@pytest.mark.parametrize(
  'table',
  ['\ufeffFilename;Class\n1.png;a\n2.png;b\n', 'label\timage_id\textra\na\t1\tx\nb\t2\ty\n'],
)
def test_tables_of_other_programs(put, table):
  found = folder.find(put('1.png', '2.png', labels=table))
  assert found.files == {'train': [('1.png', 0), ('2.png', 1)]}


def test_parts_of_a_table(put):
  table = 'file,label,split\n1.png,a,train\n2.png,b,Training\n3.png,b,valid\n4.png,a,test\n'
  found = folder.find(put('1.png', '2.png', '3.png', '4.png', labels=table))
  assert found.files == {
    'train': [('1.png', 0), ('2.png', 1)], 'val': [('3.png', 1)], 'test': [('4.png', 0)],
  }  # fmt: skip


def test_a_table_for_each_part(put):
  put('train/1.png', 'train/2.png', 'val/1.png')
  root = put(train='file,label\n1.png,a\n2.png,b\n', Validation='file,label\n1.png,b\n')
  found = folder.find(root)
  assert found.files == {
    'train': [('train/1.png', 0), ('train/2.png', 1)], 'val': [('val/1.png', 1)],
  }  # fmt: skip
  for name in 'train', 'Validation':
    (root / f'{name}.csv').unlink()
  put(train__labels='file,label\n1.png,a\n2.png,b\n')
  with pytest.raises(ValueError, match='val has no labels.csv, and other parts have one'):
    folder.find(root)
  put(val__labels='file,label\n1.png,b\n')
  assert folder.find(root).files == found.files


def test_images_without_a_label_are_named(put):
  found = folder.find(put(*IMAGES, labels='file,label\n1.png,a\n2.png,b\n'))
  assert found.sentences() == ("2 images have no label and are not used, for example '10.png'",)


@pytest.mark.parametrize(
  'table, words',
  [
    ('file,label\n1.png,a\nx.png,b\n', r"labels.csv line 3 names 'x.png'; there is no such file"),
    ('file,label\n1.png,a\n1.png,b\n', "line 3 names '1.png', which has a label already"),
    ('file,label\n1.png,a\n2.png,\n', 'line 3 has no label'),
    ('file,label\n1.png,a\n,b\n', 'line 3 has no file'),
    ('file,label\n1.png,a\n2.png\n', 'line 3 has no label'),
    ('file,label\n1.png,a\n../out.png,b\n', "'../out.png', which is outside of"),
    ('file,label\n1.png,a\n/etc/passwd,b\n', "'/etc/passwd', which is outside of"),
    ('file,label\n1.png,a\n2.png,a\n', "one class only, 'a'"),
    ('file,label,part\n1.png,a,traim\n2.png,b,test\n', "the part 'traim'; allowed are train"),
    ('file,label,part\n1.png,a,test\n2.png,b,test\n', 'has no training images'),
    ('file,label,part\n1.png,a,train\n2.png,b,train\n10.png,c,val\n', "class 'c', which has no"),
    ('name,score\n1.png,a\n', r"no column 'file'; .* file,label \(it is 'name,score'\)"),
    ('', "no column 'file'"),
    ('file,label,class\n1.png,a,a\n', '2 columns for the label'),
    ('file,label\n"1.png,a\n', 'is not a table of comma-separated values'),
  ],
)
def test_each_mistake_is_named(put, table, words):
  with pytest.raises(ValueError, match=words) as caught:
    folder.find(put(*IMAGES[:3], labels=table))
  assert '\n' not in str(caught.value)


def test_tables_that_contradict_each_other_are_named(put):
  table = 'file,label\n1.png,a\n2.png,b\n'
  root = put('1.png', '2.png', labels=table, train=table)
  with pytest.raises(ValueError, match='has the tables labels.csv and train.csv; keep one kind'):
    folder.find(root)
  (root / 'labels.csv').write_bytes(b'\xff\xfe\x00')
  (root / 'train.csv').unlink()
  with pytest.raises(ValueError, match='is not a table'):
    folder.find(root)
