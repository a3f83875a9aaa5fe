"""Hostile data files, as in the campaign: each is read or refused, within bounds."""

import pytest

from experiments.reliability import bounds, hostile_archives, hostile_images

pytestmark = pytest.mark.filterwarnings('ignore')  # Pillow warns about strange files


@pytest.mark.parametrize('block', range(3))
def test_files_are_read_or_refused_within_bounds(block):
  for seed in range(100 * block, 100 * block + 100):
    found = bounds.trial(seed)
    assert found.outcome in bounds.GOOD, f'seed {seed}: {found}'


@pytest.mark.parametrize('name', hostile_archives.ATTACKS)
def test_every_archive_is_read_or_refused(tmp_path, name):
  for number in 0, 12_345, 2**24 - 1:
    data = hostile_archives.ATTACKS[name](number) + bytes(2048)
    for pack in bytes, hostile_archives.PACK['gzip']:
      outcome = bounds.outcome(bounds.KINDS['archive'].read, tmp_path, pack(data))
      assert outcome in bounds.GOOD, number


@pytest.mark.parametrize('name', hostile_images.ATTACKS)
def test_every_image_is_read_or_refused(tmp_path, name):
  for number in 0, 12_345:
    data = hostile_images.ATTACKS[name](number)
    outcome = bounds.outcome(bounds.KINDS['image'].read, tmp_path, data)
    assert outcome in bounds.GOOD, number


def test_a_campaign_can_fail(monkeypatch):
  def fail(place, data):
    if data == b'memory':
      assert len(bytearray(b'x') * 2**26)
    raise {b'traceback': KeyError, b'memory': ValueError, b'end': MemoryError}[data]

  for word, outcome in [
    (b'traceback', 'traceback: KeyError'), (b'memory', 'too much memory'), (b'end', 'out of memory')
  ]:  # fmt: skip
    kind = bounds._Kind(lambda *_, word=word: ('x', word), fail, lambda n: 2**24)
    monkeypatch.setattr(bounds, 'KINDS', {'kind': kind})
    assert bounds.trial(0).outcome == outcome
