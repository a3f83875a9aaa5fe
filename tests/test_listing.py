"""Tests of folders: names of parts, sub-folders, and files that are passed over."""

import os

import pytest
from PIL import Image

from stretchnas_jax.data.datasets import folder, image_files, listing


def make(root, *names):
  """Makes an image of 8x8 pixels under each name; a name without an ending is one too."""
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8)).save(root / name, 'JPEG')


def names_of(found, part='train'):
  return [name for name, _ in found.files[part]]


PARTS = [
  ('train', 'val', 'test'), ('Train', 'Valid', 'Test'), ('TRAINING', 'Validation', 'testing'),
  ('training', 'dev', 'TESTING'),
]  # fmt: skip


@pytest.mark.parametrize('parts', PARTS)
def test_parts_have_their_usual_names_in_any_case(tmp_path, parts):
  for part in parts:
    make(tmp_path, f'{part}/a/1.png', f'{part}/b/2.png')
  found = folder.find(tmp_path)
  assert found.class_names == ('a', 'b') and not found.sentences()
  for meaning, name in zip(('train', 'val', 'test'), parts):
    assert found.files[meaning] == [(f'{name}/a/1.png', 0), (f'{name}/b/2.png', 1)]
  assert found.paths('val')[0][0] == os.path.join(tmp_path, parts[1], 'a', '1.png')


@pytest.mark.parametrize(
  'names, words',
  [
    (['train/a/1.png', 'train/b/1.png', 'val/a/1.png', 'Valid/a/1.png'],
     "'Valid' and 'val', which both mean the part 'val'; keep one"),
    (['train/a/1.png', 'train/b/1.png', 'training/a/1.png'], "both mean the part 'train'"),
    (['test/a/1.png', 'test/b/1.png', 'val/a/1.png'], "'test' and 'val', and no 'train' beside it"),
    (['train/a/1.png', 'train/b/1.png', 'cats/1.png'], "'train', .* beside 'cats'; a folder holds"),
    (['a/1.png', 'b/1.png', 'val/a/1.png'], "'val', which is the name of a part .* beside 'a'"),
    (['cats/1.png', 'dogs/1.png', 'Test/1.png'], "'Test', which is the name of a part .* 'cats'"),
    (['train/1.png', 'test/1.png'], 'train has no class folders'),
    (['train/a/1.png', 'train/b/1.png', 'test/c/1.png'], "the class 'c', which has no training"),
    (['set/train/a/1.png', 'set/test/b/1.png'], "one class only, 'set'; .* set data.path to .*set"),
    (['a/1.heic', 'b/1.txt'], 'has class folders, and no images in them'),
  ],
)  # fmt: skip
def test_folders_that_contradict_each_other_are_named(tmp_path, names, words):
  make(tmp_path, *names)
  with pytest.raises(ValueError, match=words):
    folder.find(tmp_path)


def test_a_part_beside_folders_without_images_is_a_part(tmp_path):
  make(tmp_path, 'train/a/1.png', 'train/b/1.png')
  (tmp_path / 'annotations').mkdir()
  (tmp_path / 'annotations' / '1.xml').write_text('x')
  found = folder.find(tmp_path)
  assert found.class_names == ('a', 'b') and found.passed_over == {'.xml': 1}


def test_sub_folders_belong_to_their_class_and_flat_folders_keep_their_order(tmp_path):
  flat = ['a/10.png', 'a/2.png', 'a/B.jpg', 'a/b.jpg', 'a/é.png']
  make(tmp_path, *flat, 'b/1.png')
  assert names_of(folder.find(tmp_path)) == [*flat, 'b/1.png']
  make(tmp_path, 'a/2/x.png', 'a/1/deep/y.png', 'b/one/1.png')
  assert names_of(folder.find(tmp_path)) == [
    'a/1/deep/y.png', 'a/10.png', 'a/2.png', 'a/2/x.png', *flat[2:], 'b/1.png', 'b/one/1.png',
  ]  # fmt: skip


def test_links_to_folders_are_followed_and_never_for_ever(tmp_path):
  make(tmp_path, 'data/a/1.png', 'data/b/1.png', 'elsewhere/2.png')
  os.symlink(tmp_path / 'elsewhere', tmp_path / 'data' / 'a' / 'link')
  os.symlink(tmp_path / 'data' / 'a', tmp_path / 'data' / 'a' / 'again')
  os.symlink(tmp_path / 'data', tmp_path / 'data' / 'b' / 'up')
  assert names_of(folder.find(tmp_path / 'data')) == ['a/1.png', 'a/link/2.png', 'b/1.png']


def test_files_that_are_passed_over_are_counted_by_their_endings(tmp_path):
  make(tmp_path, 'a/1.jfif', 'a/2', 'a/3.JPG', 'b/1.png', 'stray.png')
  for name in ('a/x.heic', 'b/sub/y.HEIC', 'a/notes.txt', 'README', 'b/no_image', 'a/z.very-odd'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b'no image')
  (tmp_path / 'a' / '.hidden').write_bytes(b'x')
  found = folder.find(tmp_path)
  assert names_of(found) == ['a/1.jfif', 'a/2', 'a/3.JPG', 'b/1.png']
  assert found.passed_over == {
    '.heic': 2, '.txt': 1, 'no ending': 2, 'other endings': 1, '.png outside of class folders': 1,
  }  # fmt: skip
  assert found.sentences() == (
    'passed over 7 files: .heic 2, no ending 2, .png outside of class folders 1, .txt 1, other '
    'endings 1',
  )


def test_many_endings_are_one_short_sentence():
  text = listing.passed_over_text({f'.e{i}': i + 1 for i in range(20)})
  assert text.startswith('passed over 210 files: .e19 20, .e18 19') and text.endswith('others 78')


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WEBP', 'JPEG2000', 'AVIF'])
def test_an_image_without_an_ending_is_told_by_its_content(tmp_path, kind):
  if kind.upper() not in Image.registered_extensions().values():
    pytest.skip('Pillow was built without it')
  make(tmp_path, 'b/1.png')
  (tmp_path / 'a').mkdir()
  Image.new('RGB', (16, 16)).save(tmp_path / 'a' / 'image', kind)
  assert names_of(folder.find(tmp_path)) == ['a/image', 'b/1.png']


def test_empty_classes_are_named(tmp_path):
  make(tmp_path, 'train/a/1.png', 'train/b/1.png', 'val/a/1.png')
  for name in ('train/c', 'val/b'):
    (tmp_path / name).mkdir()
  found = folder.find(tmp_path)
  assert found.class_names == ('a', 'b')
  assert found.notes == (
    f'{tmp_path / "train" / "c"} has no images', f'{tmp_path / "val" / "b"} has no images',
  )  # fmt: skip


def test_every_known_ending_is_one_that_pillow_reads():
  known = Image.registered_extensions()
  assert not [ending for ending in image_files.SUFFIXES if ending not in known]
