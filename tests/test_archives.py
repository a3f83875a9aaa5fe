"""Tests of archives: damage is named, and no size in an archive is believed."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from test_cifar import check, write

from stretchnas_jax.data.datasets import archives, cifar, compression, loading

MOST = {'data_batch_1': 100_000, 'test_batch': 100_000}
CONTENT = {name: np.random.default_rng(0).bytes(5000) for name in MOST}
PACK = {'': bytes, '.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress}


def tar(entries, end=True):
  """Returns a tar archive of names with contents; `end=False` leaves its last blocks out."""
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode='w', format=tarfile.GNU_FORMAT) as archive:
    for info, content in entries:
      if isinstance(info, str):
        info, name = tarfile.TarInfo(), info
        info.name, info.size = name, len(content)
      archive.addfile(info, io.BytesIO(content))
    size = out.tell()
  return out.getvalue() if end else out.getvalue()[:size]


WHOLE = tar([(f'folder/{name}', content) for name, content in CONTENT.items()])


def read(folder, blob, name='x.tar'):
  (folder / name).write_bytes(blob)
  return archives.read(folder / name, MOST)


def refuse(folder, blob, words, most_memory=12 * 2**20):
  """Asserts that an archive is refused in one sentence, at once, and without much memory."""
  tracemalloc.start()
  begin = time.process_time()
  with pytest.raises(ValueError, match=f'x.tar .*{words}') as caught:
    read(folder, blob)
  seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert len(str(caught.value)) < 500 and str(caught.value).isprintable()
  assert seconds < 2 and peak < most_memory


@pytest.mark.parametrize('ending', PACK)
def test_archives_are_read(tmp_path, ending):
  assert read(tmp_path, PACK[ending](WHOLE)) == CONTENT
  assert read(tmp_path, PACK[ending](WHOLE[:7000]) + PACK[ending](WHOLE[7000:])) == CONTENT
  assert read(tmp_path, PACK[ending](WHOLE) + bytes(8192)) == CONTENT


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_archives_are_read(tmp_path, method):
  with zipfile.ZipFile(tmp_path / 'x', 'w', method) as archive:
    archive.mkdir('folder')
    for name, content in CONTENT.items():
      archive.writestr(f'folder/{name}', content)
    archive.writestr('folder/readme', b'unused')
  assert archives.read(tmp_path / 'x', MOST) == CONTENT


@pytest.mark.parametrize('ending', ['.tgz', '.tar', '.tar.bz2', '.tar.xz', '.zip'])
def test_cifar_in_any_archive(tmp_path, ending):
  folder = write(tmp_path / 'data', 'cifar10')
  packed = tmp_path / 'packed' / f'cifar-10-python{ending}'
  packed.parent.mkdir()
  if ending == '.zip':
    with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as archive:
      for file in folder.iterdir():
        archive.write(file, f'cifar-10-batches-py/{file.name}')
  else:
    method = {'.tgz': 'gz', '.tar': ''}.get(ending, ending.removeprefix('.tar.'))
    with tarfile.open(packed, f'w:{method}') as archive:
      archive.add(folder, 'cifar-10-batches-py')
  check(loading.load('cifar10', path=str(packed)), 'cifar10')
  check(loading.load('cifar10', path=str(packed.parent)), 'cifar10')


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize('ending', ['.gz', '.bz2', '.xz'])
def test_a_flipped_bit_is_named(tmp_path, ending):
  """Only some bits of gzip's header, and the last ones of bzip2, may differ: nobody needs them."""
  packed = PACK[ending](WHOLE)
  rng = np.random.default_rng(0)
  named = 0
  for place in [*rng.integers(0, len(packed), 60), *range(len(packed) - 8, len(packed))]:
    damaged = bytearray(packed)
    damaged[place] ^= 1 << rng.integers(8)
    try:
      assert read(tmp_path, damaged) == CONTENT
    except ValueError as error:
      assert 'x.tar is not a whole tar' in str(error)
      named += 1
  assert named >= 66


def test_a_flipped_bit_of_a_zip_is_named(tmp_path):
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w') as archive:
    for name, content in CONTENT.items():
      archive.writestr(name, content)
  for place in range(100, 5000, 97):
    damaged = bytearray(out.getvalue())
    damaged[place] ^= 4
    with pytest.raises(ValueError, match='x.tar is not a whole tar or zip archive .*CRC'):
      read(tmp_path, damaged)


@pytest.mark.parametrize('ending', PACK)
def test_a_cut_archive_is_named(tmp_path, ending):
  packed = PACK[ending](WHOLE)
  for size in 0, 3, 300, 600, len(packed) // 2, len(packed) * 9 // 10 if ending else 11_000:
    with pytest.raises(ValueError, match=r'x\.tar '):
      read(tmp_path, packed[:size])


def test_a_damaged_header_is_not_the_end(tmp_path):
  damaged = bytearray(WHOLE)
  damaged[512 + 5120 + 3] ^= 1  # in the name of the second member
  with pytest.raises(ValueError, match='the header before byte .* is damaged'):
    read(tmp_path, damaged)
  assert read(tmp_path, tar([('data_batch_1', b'x')], end=False)) == {'data_batch_1': b'x'}


@pytest.mark.parametrize('ending', ['.gz', '.bz2', '.xz'])
def test_what_follows_the_end_is_named(tmp_path, ending):
  with pytest.raises(ValueError, match='x.tar is not a whole'):
    read(tmp_path, PACK[ending](WHOLE) + b'hello')


def test_an_unpacked_file_that_differs_is_told(tmp_path, caplog, monkeypatch):
  """A folder has no checksum, so the published one is compared, and a difference is no error."""
  folder = write(tmp_path / 'data', 'cifar10')
  monkeypatch.setattr(cifar, '_PUBLISHED_ROWS', 3)
  loading.load('cifar10', path=str(folder))
  (record,) = caplog.records
  assert record.levelname == 'WARNING'
  assert (
    'the MD5 of data_batch_1, data_batch_2' in caplog.text and 'not the published' in caplog.text
  )


# ---- sizes that are not believed -----------------------------------------------------------------


def member(name, size=0, kind=tarfile.REGTYPE):
  info = tarfile.TarInfo(name)
  info.size, info.type = size, kind
  return info


def header(info):
  return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize('ending', PACK)
@pytest.mark.parametrize(
  'blob, words',
  [
    (header(member('data_batch_1', 2**31)), 'a member data_batch_1 of 2147483648 bytes'),
    (header(member('x', 2**40)), 'unpacks to more than'),
    (header(member('x', -1024)), 'overlap|header'),
    (header(member('x', 2**30, tarfile.XHDTYPE)), 'describes its members with more bytes'),
    (header(member('x', 2**30, tarfile.GNUTYPE_LONGNAME)), 'describes its members with more bytes'),
    (header(member('x', 0, tarfile.XHDTYPE)) * 500, 'with more bytes|recursion'),
    (header(member('x', 2048, tarfile.XHDTYPE)) + b'9' * 2048, 'number of a hundred digits'),
    (header(member('x')) * 1100, 'more than 1000 members'),
    (header(member('data_batch_1', 0, tarfile.SYMTYPE)), 'has a link or a sparse file'),
    (header(member('data_batch_1', 0, tarfile.LNKTYPE)), 'has a link or a sparse file'),
    (header(member('test_batch', 0, tarfile.FIFOTYPE)), 'has a link or a sparse file'),
    (header(member('test_batch')) * 2, 'has two members with the name test_batch'),
  ],
)  # fmt: skip
def test_a_tar_archive_that_lies_is_refused(tmp_path, blob, words, ending):
  refuse(tmp_path, PACK[ending](blob + bytes(2048)), words)


def sparse(size):
  """Returns a sparse member of a few bytes that stands for `size` zeros."""
  block = bytearray(header(member('data_batch_1', 0, tarfile.GNUTYPE_SPARSE)))
  block[386:398] = b'%011o\0' % 0
  block[398:410] = b'%011o\0' % 0
  block[483:495] = b'%011o\0' % size
  block[148:156] = b'%06o\0 ' % (256 + sum(block[:148]) + sum(block[156:]))
  return bytes(block)


def test_a_sparse_member_is_refused(tmp_path):
  refuse(tmp_path, sparse(3 * 2**30) + bytes(1024), 'has a link or a sparse file')


@pytest.mark.parametrize('ending', ['.gz', '.bz2', '.xz'])
def test_a_stream_that_goes_on_is_refused(tmp_path, ending):
  endless = PACK[ending](bytes(2**22)) * 8
  refuse(tmp_path, PACK[ending](tar([])) + endless, 'goes on for', most_memory=40 * 2**20)
  refuse(tmp_path, endless, 'goes on for', most_memory=40 * 2**20)


def test_streams_without_content_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(compression, '_MOST_STREAMS', 100)
  refuse(tmp_path, gzip.compress(b'') * 101, 'more than 100 compressed streams')


def test_xz_may_not_ask_for_much_memory(tmp_path):
  packed = bytearray(lzma.compress(WHOLE))
  block = slice(12, 12 + 4 * (packed[12] + 1))  # the header of the first block, with its checksum
  changed = bytearray(packed[block])
  changed[changed.index(b'\x21\x01') + 2] = 38  # a dictionary of 2 GiB
  changed[-4:] = struct.pack('<I', zlib.crc32(changed[:-4]))
  packed[block] = changed
  refuse(tmp_path, packed, 'Memory usage limit')


def test_a_zip_that_lies_is_refused(tmp_path):
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('data_batch_1', bytes(10**6))
  refuse(tmp_path, out.getvalue(), 'a member data_batch_1 of 1000000 bytes')
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w') as archive:
    for i in range(1100):
      archive.writestr(f'{i}', b'')
  refuse(tmp_path, out.getvalue(), 'more than 1000 members')
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w') as archive:
    link = zipfile.ZipInfo('data_batch_1')
    link.external_attr = 0o120777 << 16
    archive.writestr(link, b'/etc/passwd')
  refuse(tmp_path, out.getvalue(), 'has a link')
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w', zipfile.ZIP_LZMA) as archive:
    archive.writestr('data_batch_1', b'x')
  refuse(tmp_path, out.getvalue(), 'other than deflate')


def test_a_large_file_in_a_folder_is_refused(tmp_path):
  folder = write(tmp_path / 'data', 'cifar10')
  with open(folder / 'data_batch_2', 'wb') as file:
    file.truncate(2**40)
  with pytest.raises(ValueError, match='data_batch_2 is not a CIFAR file .1099511627776 bytes; '):
    loading.load('cifar10', path=str(folder))
