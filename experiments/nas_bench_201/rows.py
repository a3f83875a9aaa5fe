"""The rows of the table: searches of methods, their controls, and changes of one field."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Group(NamedTuple):
  """Rows that are run and drawn together.

  Attributes:
    place: groups run in this order, so that a run that ends anywhere leaves whole comparisons.
    seeds: how many are wanted of each row.
    chart: the part of the name of their charts; '' for the first ones.
  """

  place: int
  seeds: int
  chart: str


class Row(NamedTuple):
  """A search that is run once for each seed.

  Attributes:
    title: its name in tables.
    method: the argument of `configs/nas_bench_201.py`.
    group: the rows beside it.
    overrides: config fields that differ from the method's.
  """

  title: str
  method: str
  group: Group
  overrides: Mapping[str, Any] = {}


_TWO_WAY = {'data.split': 'two_way'}
_CORE, _CONTROL = Group(0, 20, ''), Group(1, 20, '')
_OTHER, _OTHER_CONTROL = Group(2, 10, '-relaxations'), Group(3, 10, '-changes')
_AXIS = Group(4, 5, '-changes')

ROWS: Mapping[str, Row] = {
  'darts': Row('DARTS, 1st order', 'darts_first', _CORE),
  'darts_six_edges': Row('DARTS without none', 'darts_first', _CORE, {'space.with_none': False}),
  'darts_sc': Row('DARTS-SC', 'darts_sc', _CORE),
  'milenas': Row('MiLeNAS', 'milenas', _CORE),
  'milenas_sc': Row('MiLeNAS-SC', 'milenas_sc', _CORE),
  'darts_sc_two_way': Row('DARTS-SC, two halves', 'darts_sc', _CONTROL, _TWO_WAY),
  'milenas_sc_two_way': Row('MiLeNAS-SC, two halves', 'milenas_sc', _CONTROL, _TWO_WAY),
  'pc_darts': Row('PC-DARTS', 'pc_darts', _OTHER),
  'pc_darts_sc': Row('PC-DARTS, stretchable', 'pc_darts_sc', _OTHER),
  'snas': Row('SNAS', 'snas', _OTHER),
  'snas_sc': Row('SNAS, stretchable', 'snas_sc', _OTHER),
  'gdas': Row('GDAS', 'gdas', _OTHER),
  'gdas_sc': Row('GDAS, stretchable', 'gdas_sc', _OTHER),
  'drnas': Row('DrNAS', 'drnas', _OTHER),
  'drnas_sc': Row('DrNAS, stretchable', 'drnas_sc', _OTHER),
  'pc_darts_sc_two_way': Row(
    'PC-DARTS, stretchable, two halves', 'pc_darts_sc', _OTHER_CONTROL, _TWO_WAY
  ),
  'gdas_sc_two_way': Row('GDAS, stretchable, two halves', 'gdas_sc', _OTHER_CONTROL, _TWO_WAY),
  'drnas_sc_two_way': Row('DrNAS, stretchable, two halves', 'drnas_sc', _OTHER_CONTROL, _TWO_WAY),
  'darts_sc_no_empty': Row(
    'DARTS-SC without the empty code', 'darts_sc', _AXIS, {'topology.include_empty': False}
  ),
  'darts_sc_unit_scale': Row(
    'DARTS-SC, scores that begin at 1', 'darts_sc', _AXIS, {'topology.unit_scale': True}
  ),
  'darts_sc_fast_beta': Row(
    "DARTS-SC, beta's rate times 3", 'darts_sc', _AXIS, {'beta.learning_rate': 3.0}
  ),
}
"""Each row by its key; the key is also the name of a folder.

A learning rate of alpha or beta here is a factor of the scale's.
"""

PAIRS: tuple[tuple[str, str], ...] = (
  ('darts_sc', 'darts'),
  ('darts_sc', 'darts_six_edges'),
  ('darts_sc_two_way', 'darts'),
  ('darts_sc_two_way', 'darts_six_edges'),
  ('darts_sc', 'darts_sc_two_way'),
  ('milenas_sc', 'milenas'),
  ('milenas_sc_two_way', 'milenas'),
  ('milenas_sc', 'milenas_sc_two_way'),
  ('pc_darts_sc', 'pc_darts'),
  ('pc_darts_sc_two_way', 'pc_darts'),
  ('pc_darts_sc', 'pc_darts_sc_two_way'),
  ('snas_sc', 'snas'),
  ('gdas_sc', 'gdas'),
  ('gdas_sc_two_way', 'gdas'),
  ('gdas_sc', 'gdas_sc_two_way'),
  ('drnas_sc', 'drnas'),
  ('drnas_sc_two_way', 'drnas'),
  ('drnas_sc', 'drnas_sc_two_way'),
  ('darts_sc_no_empty', 'darts_sc'),
  ('darts_sc_unit_scale', 'darts_sc'),
  ('darts_sc_fast_beta', 'darts_sc'),
)
"""Pairs of keys; the second row is subtracted from the first, seed by seed."""
