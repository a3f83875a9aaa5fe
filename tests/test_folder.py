"""Tests of class folders with images of many kinds."""

import os

import numpy as np
import pytest
from image_folders import GREY, RED, make_tree, save
from PIL import Image

from stretchnas_jax.data.datasets import folder, image_files, images, loading


@pytest.fixture
def tree(tmp_path):
  return make_tree(tmp_path / 'animals')


@pytest.fixture
def load(tmp_path):
  return lambda path, **options: loading.load(
    'folder', path=str(path), cache=tmp_path / 'cache', **options
  )


def test_one_folder_of_class_folders(tree, load):
  save(tree / '.hidden' / '0.png')
  save(tree / 'cat' / '._0.png')
  (tree / 'cat' / 'notes.txt').write_text('not an image')
  (tree / 'cat' / 'more.png').mkdir()
  data = load(tree)
  assert data.class_names == ('cat', 'dog')
  assert data.train_images.shape == (5, 32, 32, 3) and data.train_images.dtype == np.uint8
  assert list(data.train_labels) == [0, 0, 1, 1, 1]
  np.testing.assert_array_equal(data.train_images[:, 0, 0, 0], [0, 1, 200, 201, 202])
  assert data.test_images is None and data.test_labels is None


@pytest.mark.parametrize('name, part', [('test', 'test'), ('val', 'val'), ('Valid', 'val')])
def test_folders_of_parts(tree, load, name, part):
  root = tree.parent / 'all'
  root.mkdir()
  tree.rename(root / 'train')
  save(root / name / 'dog' / 'x.png', (7, 8, 9))
  data = load(root, image_size=8)
  assert data.train_images.shape == (5, 8, 8, 3)
  pictures, labels = data.part(part)
  assert list(labels) == [1] and folder.find(root).files[part] == [(f'{name}/dog/x.png', 1)]
  np.testing.assert_array_equal(pictures[0, 0, 0], [7, 8, 9])
  assert data.part('val' if part == 'test' else 'test') is None


def test_validation_and_test_folders_are_two_parts(tree, load):
  root = tree.parent / 'all'
  root.mkdir()
  tree.rename(root / 'train')
  save(root / 'val' / 'dog' / 'x.png')
  save(root / 'test' / 'unlabelled.png')
  data = load(root)
  assert list(data.val_labels) == [1] and data.test_images is None
  assert 'test has no class folders and is not used' in data.notes[0]
  assert data.notes[1] == 'passed over 1 file: .png outside of class folders 1'
  save(root / 'test' / 'cat' / 'x.png')
  data = load(root)
  assert list(data.val_labels) == [1] and list(data.test_labels) == [0]


def test_a_class_may_be_called_train(load, tmp_path):
  save(tmp_path / 'vehicles' / 'car' / '0.png')
  save(tmp_path / 'vehicles' / 'train' / '0.png')
  data = load(tmp_path / 'vehicles')
  assert data.class_names == ('car', 'train')
  assert data.notes == (
    f'{tmp_path / "vehicles" / "train"} counts as a class, not as the part train',
  )


def test_grey_images_have_one_channel(load, tmp_path):
  root = tmp_path / 'grey'
  save(root / 'a' / '0.png', GREY, mode='L')
  save(root / 'b' / '0.png', GREY)
  data = load(root)
  assert data.train_images.shape == (2, 32, 32, 1)
  assert (data.train_images == 128).all() and data.mean.shape == data.std.shape == (1,)
  save(root / 'b' / '1.png', RED)
  assert load(root).train_images.shape == (3, 32, 32, 3)


# ---- one image -----------------------------------------------------------------------------------


def sixteen_bits(file):
  Image.fromarray(np.full((4, 4), 25690, np.uint16)).save(file)


def transparent(file):
  Image.new('RGBA', (4, 4), (0, 0, 0, 0)).save(file)


def half_transparent_palette(file):
  image = Image.new('P', (4, 4), 1)
  image.putpalette([0, 0, 0, 255, 0, 0])
  image.save(file, transparency=bytes([255, 0]))


def animated(file):
  frames = [Image.new('RGB', (4, 4), color) for color in (RED, (0, 0, 255))]
  frames[0].save(file, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
  'name, make, color',
  [
    ('rgb.png', lambda f: save(f), RED),
    ('grey.png', lambda f: save(f, GREY, mode='L'), GREY),
    ('black_and_white.png', lambda f: save(f, (255, 255, 255), mode='1'), (255, 255, 255)),
    ('palette.png', lambda f: save(f, mode='P'), RED),
    ('palette.gif', lambda f: save(f), RED),
    ('cmyk.tif', lambda f: save(f, mode='CMYK'), RED),
    ('cmyk.jpg', lambda f: save(f, GREY, mode='CMYK', quality=100), GREY),
    ('sixteen.png', sixteen_bits, (100, 100, 100)),
    ('sixteen.tif', sixteen_bits, (100, 100, 100)),
    ('transparent.png', transparent, (255, 255, 255)),
    ('transparent_palette.png', half_transparent_palette, (255, 255, 255)),
    ('animated.gif', animated, RED),
    ('UPPER.PNG', lambda f: save(f), RED),
  ],
)
def test_every_kind_of_image(tmp_path, name, make, color):
  file = tmp_path / name
  make(file)
  pixels = images.read(file, 5)
  assert pixels.shape == (5, 5, 3) and pixels.dtype == np.uint8
  np.testing.assert_allclose(pixels, np.broadcast_to(color, (5, 5, 3)), atol=1)
  assert file.name.lower().endswith(image_files.SUFFIXES)


def test_a_photograph_is_turned_upright(tmp_path):
  image = Image.new('RGB', (4, 8))  # the left half is red once it is upright
  image.paste(RED, (0, 4, 4, 8))
  exif = Image.Exif()
  exif[0x0112] = 6  # "turn me clockwise"
  image.save(tmp_path / 'turned.png', exif=exif)
  pixels = images.read(tmp_path / 'turned.png', 8)
  np.testing.assert_array_equal(pixels[:, 0], [RED] * 8)
  np.testing.assert_array_equal(pixels[:, 7], [(0, 0, 0)] * 8)


def test_the_whole_image_is_scaled(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (64, 16, 3), np.uint8)
  Image.fromarray(pixels).save(tmp_path / 'tall.png')
  blocks = pixels.reshape(4, 16, 4, 4, 3).mean(axis=(1, 3))
  got = images.read(tmp_path / 'tall.png', 4)
  assert np.corrcoef(got.ravel(), blocks.ravel())[0, 1] > 0.7


def test_a_large_photograph(tmp_path):
  ramp = np.linspace(0, 255, 800).astype(np.uint8)
  picture = np.broadcast_to(ramp[None, :, None], (600, 800, 3))
  Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / 'ramp.jpg', quality=95)
  got = images.read(tmp_path / 'ramp.jpg', 16)
  wanted = np.broadcast_to(((np.arange(16) + 0.5) * 255 / 16)[None, :, None], (16, 16, 3))
  np.testing.assert_allclose(got[:, 1:-1], wanted[:, 1:-1], atol=3)


def test_resize_keeps_the_channels():
  batch = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
  assert images.resize(batch, 4) is batch
  colour = images.resize(batch, 7)
  assert colour.shape == (3, 7, 7, 3)
  for channel in range(3):
    one = images.resize(batch[..., channel : channel + 1], 7)
    np.testing.assert_array_equal(one[..., 0], colour[..., channel])


# ---- mistakes -----------------------------------------------------------------------------------


def truncated(file):
  save(file, size=(64, 64))
  file.write_bytes(file.read_bytes()[:-40])


def huge(file):
  save(file, size=(50, 41))


@pytest.mark.parametrize(
  'name, make',
  [
    ('zero.png', lambda f: f.write_bytes(b'')),
    ('text.jpg', lambda f: f.write_text('<html>not found</html>')),
    ('truncated.bmp', truncated),
    ('huge.png', huge),
    ('bomb.png', lambda f: save(f, size=(80, 80))),
    ('floating.tif', lambda f: Image.fromarray(np.ones((4, 4), np.float32)).save(f)),
    ('deep.tif', lambda f: Image.fromarray(np.full((4, 4), 70000, np.int32)).save(f)),
    ('dangling.png', lambda f: os.symlink('nowhere.png', f)),
  ],
)
def test_an_unreadable_image(tree, load, monkeypatch, caplog, name, make):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)
  make(tree / 'cat' / name)
  with pytest.raises(ValueError, match=f"{name} is not a readable .*data.on_bad_image to 'skip'"):
    load(tree)
  data = load(tree, on_bad_image='skip')
  assert list(data.train_labels) == [0, 0, 1, 1, 1]
  np.testing.assert_array_equal(data.train_images[:, 0, 0, 0], [0, 1, 200, 201, 202])
  assert name in caplog.text
  again = load(tree, on_bad_image='skip')  # from the cache
  note = f"1 of 6 images of train cannot be read and do not count, for example 'cat/{name}'"
  assert data.notes == again.notes == (note,)
  with pytest.raises(ValueError, match=name):
    load(tree)


@pytest.mark.filterwarnings('ignore')
def test_too_many_pixels_are_refused_even_without_warnings(tmp_path, monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)
  huge(tmp_path / 'huge.png')
  with pytest.raises(ValueError, match='more than 2000 pixels'):
    images.read(tmp_path / 'huge.png', 4)


def test_a_class_of_unreadable_images(tree, load):
  for file in (tree / 'cat').iterdir():
    file.write_bytes(b'')
  with pytest.raises(ValueError, match="no readable image of the class 'cat'"):
    load(tree, on_bad_image='skip')


def test_a_folder_without_class_folders_is_named(tree, load, tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere.*there is no such folder'):
    load(tmp_path / 'nowhere')
  with pytest.raises(NotADirectoryError, match='must be a folder of class folders'):
    load(tree / 'cat' / '0.png')
  with pytest.raises(ValueError, match='cat has no class folders'):
    load(tree / 'cat')
  (tree / 'bird').mkdir()
  data = load(tree)
  assert data.class_names == ('cat', 'dog') and data.notes == (f'{tree / "bird"} has no images',)
  save(tmp_path / 'single' / 'cat' / '0.png')
  with pytest.raises(ValueError, match="one class only, 'cat'"):
    load(tmp_path / 'single')


def test_train_and_test_folders_that_disagree_are_named(tree, load, tmp_path):
  save(tmp_path / 'flat' / 'train' / '0.png')
  save(tmp_path / 'flat' / 'test' / '0.png')
  with pytest.raises(ValueError, match='train has no class folders'):
    load(tmp_path / 'flat')
  root = tmp_path / 'all'
  root.mkdir()
  tree.rename(root / 'train')
  save(root / 'test' / 'bird' / '0.png')
  with pytest.raises(ValueError, match="the class 'bird', which has no training images"):
    load(root)
