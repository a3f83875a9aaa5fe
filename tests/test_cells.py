"""Drawings of cells: nothing overlaps, everything is there, and both back ends draw the same."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stretchnas_jax import draw
from stretchnas_jax.cells import space, zoo
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.views import cell_layout, cell_picture, cells, coordinates
from stretchnas_jax.views.boxes import Box

OPERATIONS = space.DARTS_PRIMITIVES[1:]


@st.composite
def cell(draw, num_intermediate=6):
  """Any cell: pruned nodes, loose ends and parallel edges among them."""
  alive, edges = [0, 1], []
  for node in range(2, num_intermediate + 2):
    sources = draw(st.lists(st.sampled_from(alive), max_size=len(alive) + 1))
    edges += [(draw(st.sampled_from(OPERATIONS)), src, node) for src in sources]
    alive += [node] * bool(sources)
  if not edges:
    alive, edges = [0, 1, 5], [('skip_connect', 0, 5)]
  concat = draw(st.permutations(alive[2:]))[: draw(st.integers(1, len(alive) - 2))]
  return edges, tuple(concat)


def dense(num_intermediate=6, operation='sep_conv_3x3'):
  """Every edge of a graph."""
  nodes = range(2, num_intermediate + 2)
  edges = [(operation, i, j) for j in nodes for i in range(j)]
  return Genotype(edges, tuple(nodes), edges, tuple(nodes))


def corners(box, slack=0.01):
  half_width, half_height = box.width / 2 - slack, box.height / 2 - slack
  return box.x - half_width, box.y - half_height, box.x + half_width, box.y + half_height


def overlap(a, b):
  return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def check(genotype):
  """Asserts all that a reader expects of a drawing, from the boxes and curves that are drawn."""
  drawn = cell_picture.picture(genotype, title='some cell')
  texts = [corners(label.box) for label in drawn.labels]
  nodes = [corners(node.box) for node in drawn.nodes]
  assert len(texts) == len(genotype.normal) + len(genotype.reduce)
  for a, b in itertools.combinations(texts + nodes, 2):
    assert not overlap(a, b)
  # A curve meets its own label and the boxes of its own two nodes, at their edge, and no other.
  for pieces, _, _ in drawn.curves:
    points = cell_layout.points_of(pieces, per_piece=24)
    assert (np.diff(points[:, 0]) >= -1e-9).all()  # from left to right throughout
    hit = [b for b in texts if crosses(points, b)]
    assert len(hit) <= 1
    assert not any(crosses(points, b) for b in nodes)
  for x0, y0, x1, y1 in texts + nodes:
    assert x0 >= 0 and y0 >= 0 and x1 <= drawn.width and y1 <= drawn.height
  ends = [tuple(np.round(pieces[-1][-1], 3)) for pieces, *_ in drawn.curves]
  assert len(set(ends)) == len(ends)  # parallel edges, too, arrive apart


def crosses(points, rectangle):
  x0, y0, x1, y1 = rectangle
  x, y = points.T
  return bool(((x0 < x) & (x < x1) & (y0 < y) & (y < y1)).any())


@pytest.mark.parametrize('name', sorted(zoo.GENOTYPES))
def test_drawings_of_published_cells_are_clear(name):
  check(zoo.GENOTYPES[name])


@settings(max_examples=30)
@given(cell(), cell())
def test_drawings_of_any_cell_of_six_nodes_are_clear(normal, reduce):
  # The checks of types draw random numbers, so no strategy may make a genotype.
  check(Genotype(*normal, *reduce))


@pytest.mark.parametrize('num_intermediate', [1, 4, 6])
def test_drawings_of_cells_with_every_edge_are_clear(num_intermediate):
  check(dense(num_intermediate))


def test_long_names_of_own_operations_fit():
  check(dense(3, 'MY_OWN_VERY_WIDE_CONVOLUTION_WITH_A_LONG_NAME'))


def test_overlaps_and_crossings_are_found():
  one = Box(0, 10.0, 10.0, x=5.0, y=5.0)
  near = Box(0, 10.0, 10.0, x=14.9, y=5.0)
  far = Box(0, 10.0, 10.0, x=15.1, y=5.0)
  assert overlap(corners(one), corners(near)) and not overlap(corners(one), corners(far))
  assert crosses(np.array([[0.0, 5.0], [5.0, 5.0]]), corners(one))


def test_columns_are_depths_and_sources_stand_left_of_their_targets():
  edges = [('skip_connect', 0, 2), ('skip_connect', 2, 4), ('skip_connect', 4, 5)]
  edges += [('skip_connect', 1, 7), ('skip_connect', 0, 5)]
  drawn = cell_picture.picture(Genotype(edges, (5, 7), edges[:1], (2,)))
  x = {text + sub: box.x for box, _, _, text, sub in drawn.nodes[:7]}
  assert x['ck-2'] == x['ck-1'] < x['2'] == x['7'] < x['4'] < x['5'] < x['ck']


def test_separate_gives_the_nearest_values_that_keep_their_distances():
  wishes, gaps = [3.0, 1.0, 9.0, 8.5], [2.0, 1.0, 3.0]
  found = coordinates.separate(wishes, gaps)
  assert all(b - a >= gap - 1e-9 for a, b, gap in zip(found, found[1:], gaps))
  # By search over a fine grid: the first two share their error, so do the last two.
  grid = np.arange(-2, 12, 0.05)
  first = min(grid, key=lambda y: (y - 3) ** 2 + (y + 2 - 1) ** 2)
  last = min(grid, key=lambda y: (y - 9) ** 2 + (y + 3 - 8.5) ** 2)
  np.testing.assert_allclose(found, [first, first + 2, last, last + 3], atol=0.06)
  bounded = coordinates.separate([0.0, 0.0, 99.0], [4.0, 4.0], 1.0, 12.0)
  assert bounded == [1.0, 5.0, 12.0]


def test_order_removes_needless_crossings():
  # Two inputs, each with its own node, listed the wrong way round.
  edges = [('skip_connect', 1, 2), ('skip_connect', 0, 3)]
  drawn = cell_picture.picture(Genotype(edges, (2, 3), edges, (2, 3)))
  y = {text + sub: box.y for box, _, _, text, sub in drawn.nodes[:5]}
  assert (y['ck-2'] < y['ck-1']) == (y['3'] < y['2'])


# ---- SVG -----------------------------------------------------------------------------------------


def texts_of(svg):
  root = ElementTree.fromstring(svg)
  return [''.join(e.itertext()) for e in root.iter('{http://www.w3.org/2000/svg}text')]


def test_svg_shows_every_edge_and_node_by_name():
  genotype = zoo.GENOTYPES['DARTS_V2']
  svg = cells.svg(genotype)
  texts = texts_of(svg)
  for op in {op for op, _, _ in genotype.normal + genotype.reduce}:
    assert texts.count(op) == sum(op == o for o, _, _ in genotype.normal + genotype.reduce)
  assert texts.count('ck-2') == texts.count('ck-1') == texts.count('ck') == 2
  assert {'2', '3', '4', '5', 'normal cell', 'reduction cell'} <= set(texts)
  curves = len(genotype.normal + genotype.normal_concat + genotype.reduce + genotype.reduce_concat)
  assert svg.count('<path') == curves
  assert 'fill="#ffffff"' in svg and 'href' not in svg and '<script' not in svg


def test_svg_is_the_same_each_time_and_for_equal_genotypes():
  edges = [('skip_connect', 0, 2), ('sep_conv_3x3', 1, 3), ('skip_connect', 1, 2)]
  one = Genotype(edges, (2, 3), edges, (2, 3))
  two = Genotype(sorted(edges, key=lambda edge: edge[2]), [2, 3], tuple(edges), (2, 3))
  assert cells.svg(one) == cells.svg(two) == cells.svg(one)


def test_text_is_escaped_and_loses_characters_that_xml_forbids():
  edges = [('a<b>&"op"', 0, 2)]
  svg = cells.svg(Genotype(edges, (2,), edges, (2,)), title='<x> & \x00 "y" \ud800')
  assert '<x> &  "y" ' in texts_of(svg) and 'a<b>&"op"' in texts_of(svg)


def test_pruned_nodes_are_absent_and_loose_ends_dashed():
  edges = [('skip_connect', 0, 3), ('skip_connect', 3, 7), ('skip_connect', 1, 5)]
  svg = cells.svg(Genotype(edges, (7,), edges, (7,)))
  assert not {'2', '4', '6'} & set(texts_of(svg))
  assert svg.count('stroke-dasharray') == 2  # node 5, in both cells
  assert len(re.findall('<path', svg)) == 8


# ---- PNG and the command -------------------------------------------------------------------------


def test_png_draws_the_same_picture(tmp_path):
  genotype = zoo.GENOTYPES['DARTS_V2']
  drawn = cell_picture.picture(genotype, 'title')
  for scale in (1, 2):
    path = tmp_path / f'{scale}.png'
    cells.png(genotype, path, title='title', scale=scale)
    with Image.open(path) as image:
      assert image.size == (round(drawn.width * scale), round(drawn.height * scale))
      pixels = np.asarray(image.convert('RGB')).astype(int)
    assert (pixels[0, 0] == 255).all()
    for box, text, colour in drawn.labels:
      x0, y0, x1, y1 = (round(v * scale) for v in corners(box))
      inside = pixels[y0:y1, x0:x1].reshape(-1, 3)
      ink = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
      assert (np.abs(inside - ink).max(1) < 60).sum() > 8 * scale * len(text) ** 0.5
      # The text stays within its box, whose upper and lower border are white.
      assert (pixels[y0, x0:x1] > 240).all() and (pixels[y1 - 1, x0:x1] > 240).all()


def run(monkeypatch, *words):
  monkeypatch.setattr('sys.argv', ['draw', *map(str, words)])
  draw.main()


def test_the_command_writes_both_forms(tmp_path, monkeypatch):
  run(monkeypatch, 'DARTS_V2', f'--out={tmp_path}/a.svg', '--title=T')
  drawn, mark = (tmp_path / 'a.svg').read_text().split('<!-- written by stretchnas_jax')
  assert drawn == cells.svg(zoo.GENOTYPES['DARTS_V2'], title='T') and mark.count('\n') == 1
  run(monkeypatch, 'DARTS_V2', f'--out={tmp_path}/a.png', '--scale=1')
  assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
  'words, message',
  [
    (['DARTS_V2', '--out=a.pdf'], 'must end in .svg or .png'),
    (['DARTS_V2', '--out=no/such/a.svg'], "no folder 'no/such'"),
    (['DARTS_V2', '--out=a.png', '--scale=99'], '--scale is 99'),
    (['DARTS_V9'], 'neither a file nor a cell of the zoo'),
    ([], 'GENOTYPE is missing'),
  ],
)
def test_the_command_names_a_wrong_word(tmp_path, monkeypatch, capsys, words, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as stop:
    run(monkeypatch, *words)
  assert stop.value.code == 2
  err = capsys.readouterr().err
  assert message in err and err.count('\n') == 1
  assert list(tmp_path.iterdir()) == []
