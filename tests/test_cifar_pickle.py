"""Tests of the reader of CIFAR's pickles: it reads the published layout, and calls nothing."""

import pickle
import pickletools
import resource
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experiments.reliability import hostile_pickles
from stretchnas_jax.data.datasets import cifar, cifar_pickle

ROWS = np.random.default_rng(0).integers(0, 256, (300, 3072), np.uint8)
LABELS = [int(label) for label in np.random.default_rng(1).integers(0, 10, 300)]


def test_the_layout_of_cifar_10():
  """The 300 file names need both sizes of the opcodes that store a value."""
  found = cifar_pickle.read(hostile_pickles.published(ROWS, LABELS))
  assert list(found) == [b'batch_label', b'labels', b'data', b'filenames']
  np.testing.assert_array_equal(found[b'data'], ROWS)
  assert found[b'data'].dtype == np.uint8 and found[b'labels'] == LABELS
  assert found[b'batch_label'] == b'training batch 1 of 5'
  assert found[b'filenames'][299] == b'leptodactylus_pentadactylus_s_000299.png'


def test_the_layout_of_cifar_100():
  found = cifar_pickle.read(hostile_pickles.published(ROWS, LABELS, LABELS[::-1]))
  assert found[b'fine_labels'] == LABELS and found[b'coarse_labels'] == LABELS[::-1]
  np.testing.assert_array_equal(found[b'data'], ROWS)


@pytest.mark.filterwarnings('ignore:dtype')  # NumPy 2.4 warns about the way Python 2 wrote a dtype
def test_the_test_files_are_pickles():
  """Python's own machine reads them too, and finds the opcodes of the published files."""
  blob = hostile_pickles.published(ROWS, LABELS)
  found = pickle.loads(blob, encoding='bytes')
  np.testing.assert_array_equal(found[b'data'], ROWS)
  assert found[b'labels'] == LABELS and len(found[b'filenames']) == 300
  names = {opcode.name for opcode, _, _ in pickletools.genops(blob)}
  assert {'BINSTRING', 'SHORT_BINSTRING', 'BINPUT', 'LONG_BINPUT', 'GLOBAL', 'BUILD'} <= names


@pytest.mark.parametrize('protocol', range(2, 6))
@pytest.mark.parametrize(
  'array',
  [ROWS[:5], np.asfortranarray(ROWS[:5]), ROWS[:0], np.arange(5.0), np.arange(3, dtype='>i4')],
)
def test_what_python_3_saves(protocol, array):
  values = [1, -1, 2**40, 0.5, None, True, 'ü', (1,)]
  content = {'data': array, b'x': b'\xff\x00' * 200, 'y': values, 'empty': b''}
  blob = pickle.dumps(content, protocol)
  for old in blob, blob.replace(b'numpy._core', b'numpy.core'):
    if protocol >= 4 and old is not blob:
      continue  # the length of the name stands before it
    found = cifar_pickle.read(old)
    np.testing.assert_array_equal(found[b'data'], array)
    assert found[b'data'].dtype == array.dtype and found[b'x'] == content[b'x']
    assert found[b'y'] == [v.encode() if isinstance(v, str) else v for v in values]
    assert found[b'empty'] == b''


def test_two_arrays_may_share_a_type():
  content = {'data': ROWS[:2], 'labels': np.array([3, 4], np.uint8)}
  for protocol in range(2, 6):
    assert list(cifar_pickle.read(pickle.dumps(content, protocol))[b'labels']) == [3, 4]


KNOWN = set('NKMJGUTXCBqrhjctaseubR()]}.') | set(
  '\x85\x86\x87\x88\x89\x8a\x8c\x8d\x8e\x93\x94\x95\x96'
)


@pytest.mark.parametrize('code', [code for code in range(256) if chr(code) not in KNOWN])
def test_every_other_opcode_is_refused(code):
  blob = b'\x80\x02}' + bytes([code]) + bytes(20) + b'.'
  with pytest.raises(cifar_pickle.BadPickle, match=r'byte 3: the opcode b.* is not allowed'):
    cifar_pickle.read(blob)


@pytest.mark.parametrize(
  'module, name',
  [
    ('os', 'system'), ('numpy', 'load'), ('numpy.f2py', 'run'), ('builtins', 'print'),
    ('numpy.core.multiarray', 'scalar'), ('numpy', 'ndarray.tofile'), ('_codecs', 'decode'),
  ],
)  # fmt: skip
def test_every_other_name_is_refused(module, name):
  texts = [b'X' + struct.pack('<I', len(part)) + part.encode() for part in (module, name)]
  for opcodes in f'c{module}\n{name}\n'.encode(), b''.join(texts) + b'\x93':
    with pytest.raises(cifar_pickle.BadPickle, match=f'{module}.{name} is not allowed'):
      cifar_pickle.read(b'\x80\x02' + opcodes + b'.')


def test_a_name_is_shown_without_control_sequences():
  with pytest.raises(ValueError) as caught:
    cifar_pickle.read(hostile_pickles.attack('control sequences', 0))
  assert str(caught.value).isprintable() and r'\x1b' in str(caught.value)


@pytest.mark.parametrize('name', hostile_pickles.ATTACKS)
def test_every_attack_is_refused_at_once(name):
  """Neither memory nor time; Python's machine takes gigabytes for some, and dies of others."""
  for number in 0, 12_345, 2**24 - 1:
    blob = hostile_pickles.attack(name, number)
    tracemalloc.start()
    begin = time.process_time()
    try:
      content = cifar_pickle.read(blob)
      assert set(content) <= {b'data', b'labels'}
      with pytest.raises(ValueError, match='x (is not a CIFAR file|has labels)'):
        cifar._parse_pickle(blob, 'x', cifar.FILES['cifar10'])
    except cifar_pickle.BadPickle as error:
      assert str(error).startswith('byte ') and len(str(error)) < 300
    seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1 and peak < 8 * len(blob) + 2**20


@pytest.mark.parametrize('opcodes', [b'}', b']', b'(', b'N', b')', b'K\x00', b'U\x00', b'N\x85'])
def test_there_is_a_bound_for_opcodes(opcodes):
  blob = b'\x80\x02' + opcodes * (2**20 // len(opcodes)) + b'.'
  with pytest.raises(cifar_pickle.BadPickle, match='more opcodes than a CIFAR file of its size'):
    cifar_pickle.read(blob)


def test_a_text_is_not_copied_again_and_again():
  text = b'X' + struct.pack('<I', 10_000) + b'x' * 10_000
  again = b'\x80\x02c_codecs\nencode\nq\x00' + text + b'q\x01' + b'h\x00h\x01U\x06latin1\x86R' * 9
  with pytest.raises(cifar_pickle.BadPickle, match='a text more often'):
    cifar_pickle.read(again + b'.')


@pytest.mark.parametrize(
  'blob, words',
  [
    (b'', 'does not begin like a pickle'),
    (b'(dp0\n.', 'does not begin like a pickle of protocol 2 to 5'),
    (b'\x80\x02}', '3: 1 bytes should follow, but the file ends after 3'),
    (b'\x80\x02}.x', '3: 1 bytes follow its end'),
    (b'\x80\x02].', 'does not hold one dictionary'),
    (b'\x80\x02}}.', 'does not hold one dictionary'),
    (b'\x80\x02(}.', 'does not hold one dictionary'),
    (b'\x80\x02}(K\x01u.', 'a key has no value'),
    (b'\x80\x02}K\x01K\x01s.', 'a key is not a text'),
    (b'\x80\x02}e.', 'a mark is missing'),
    (b'\x80\x02}(s.', 'a value is missing'),
    (b'\x80\x02}K\x01a.', 'needs a list'),
    (b'\x80\x02}h\x00.', 'recalls the value 0'),
    (b'\x80\x02}NNR.', 'calls something that is not a function'),
    (b'\x80\x02}Nb.', 'needs an array'),
  ],
)
def test_a_mistake_has_its_byte_and_its_reason(blob, words):
  with pytest.raises(cifar_pickle.BadPickle, match=f'^byte .*{words}'):
    cifar_pickle.read(blob)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
@example(3)
def test_any_file_is_read_or_refused(seed):
  _, blob = hostile_pickles.draw(np.random.default_rng(seed))
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  try:
    content = cifar_pickle.read(blob)
    assert all(isinstance(key, bytes) for key in content)
  except cifar_pickle.BadPickle as error:
    assert len(str(error)) < 300 and str(error).isprintable()
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
  for start in b'', b'\x80\x02', b'\x80\x05}':
    try:
      cifar_pickle.read(start + data)
    except cifar_pickle.BadPickle as error:
      assert str(error).startswith('byte ')
