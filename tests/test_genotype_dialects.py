"""The tolerant reader: every form that programs print, of cells of known sizes."""

import json

import pytest

from stretchnas_jax.cells import genotype, space, zoo
from stretchnas_jax.networks import sizes

V2 = zoo.GENOTYPES['DARTS_V2']
TEXT = genotype.to_darts_text(V2)
# Cells of four nodes with two inputs each that concatenate all of them, as most forms assume.
PAIRS = [2, 2, 3, 3, 4, 4, 5, 5]
CELLS = [
  name
  for name, found in zoo.GENOTYPES.items()
  if found.normal_concat == found.reduce_concat == (2, 3, 4, 5)
  and [dst for _, _, dst in found.normal] == [dst for _, _, dst in found.reduce] == PAIRS
]
EDGES = [(src, dst) for dst in range(2, 6) for src in range(dst)]
TYPES = ('normal', 'reduce')


def by_node(found, make=list):
  """`{'normal': [[(op, src), ...], ...], ...}`: the entries of each node."""
  return {
    cell: [
      make((op, src) for op, src, dst in getattr(found, cell) if dst == node)
      for node in range(2, 6)
    ]
    for cell in TYPES
  }


def flat(found):
  """`{'normal': [(op, src), ...], ...}`."""
  return {cell: [(op, src) for op, src, _ in getattr(found, cell)] for cell in TYPES}


def call(cells, concat='range(2, 6)', more=''):
  """A text `Genotype(normal=..., ...)`."""
  return (
    f'Genotype(normal={cells["normal"]}, normal_concat={concat}, '
    f'reduce={cells["reduce"]}, reduce_concat={concat}{more})'
  )


def nni(found, wrap):
  """NNI's form; `wrap` makes the value of an input."""
  return {
    key: value
    for cell, nodes in by_node(found).items()
    for node, entries in enumerate(nodes, 2)
    for k, (op, src) in enumerate(entries)
    for key, value in ((f'{cell}/op_{node}_{k}', op), (f'{cell}/input_{node}_{k}', wrap(src)))
  }


def old_nni(found, switch, choose):
  """NNI's older form; `switch` makes the value of a switch, and `choose` the one of a choice."""
  fields = {}
  for cell, nodes in by_node(found).items():
    for node, entries in enumerate(nodes, 2):
      operations = {src: op for op, src in entries}
      for src in range(node):
        fields[f'{cell}_n{node}_p{src}'] = choose(operations.get(src, 'max_pool_3x3'))
      fields[f'{cell}_n{node}_switch'] = switch(f'{cell}_n{node}', node, list(operations))
  return fields


def bench_301(found):
  """The configuration of NAS-Bench-301."""
  prefix, fields = 'NetworkSelectorDatasetInfo:darts:', {}
  for cell, nodes in by_node(found).items():
    for node, entries in enumerate(nodes, 2):
      for op, src in entries:
        fields[f'{prefix}edge_{cell}_{EDGES.index((src, node))}'] = op
      sources = sorted(src for _, src in entries)
      if node > 2:
        fields[f'{prefix}inputs_node_{cell}_{node}'] = '_'.join(map(str, sources))
  return fields


def one_of_seven(op):
  return [op == known for known in space.OPERATIONS[:7]]


def fields(cells):
  """The four fields of a genotype."""
  return {**cells, 'normal_concat': [2, 3, 4, 5], 'reduce_concat': [2, 3, 4, 5]}


def positional(found):
  cells = flat(found)
  return cells['normal'], [2, 3, 4, 5], cells['reduce'], [2, 3, 4, 5]


def of_gdas(found):
  """The text of a log of GDAS, where a weight stands behind each operation."""
  weighted = {
    cell: [tuple((op, src, 0.125) for op, src in entries) for entries in nodes]
    for cell, nodes in by_node(found).items()
  }
  return str(fields(weighted)).replace('0.125', 'tensor(0.1, grad_fn=<SelectBackward>)')


def of_fair_darts(found):
  return call({cell: [(op, dst, src) for op, src, dst in getattr(found, cell)] for cell in TYPES})


def of_naslib(found):
  numbers = space.OPERATIONS.index
  return str(
    tuple(tuple((src, numbers(op)) for op, src, _ in getattr(found, cell)) for cell in TYPES)
  )


def of_autodl(found):
  return call(by_node(found, tuple), '[2, 3, 4, 5]', ', connectN=None, connects=None')


def of_config_space(found):
  lines = [f"  {key}, Value: '{value}'" for key, value in bench_301(found).items()]
  return '\n'.join(['Configuration:', *lines])


def in_result_of_bench_301(found):
  return json.dumps({'optimized_hyperparamater_config': bench_301(found), 'info': [{}]})


def old_nni_numbers(found):
  return json.dumps(old_nni(found, lambda key, node, used: used, lambda op: op.replace('_', '')))


def old_nni_names(found):
  names = lambda key, node, used: [f'{key}_p{i}' for i in used]
  return json.dumps(old_nni(found, names, lambda op: [op]))


def old_nni_truths(found):
  return json.dumps(
    old_nni(found, lambda key, n, used: [i in used for i in range(n)], one_of_seven)
  )


# Form -> (a function that writes a cell in it, a part of its name).
LIST, OLD = 'a list for each node', "NNI's older form"
FORMS = {
  'DARTS': (lambda g: call(flat(g)), "DARTS' form"),
  'a dict': (lambda g: str(fields(flat(g))), "DARTS' form"),
  'namedtuple': (lambda g: call(flat(g), '[2, 3, 4, 5]'), "DARTS' form"),
  'a tuple': (lambda g: str(positional(g)), "DARTS' form"),
  'without keywords': (lambda g: f'Genotype{positional(g)}', "DARTS' form"),
  'JSON': (lambda g: json.dumps({**fields(flat(g)), 'x': "it's"}), "DARTS' form"),
  'pt.darts': (lambda g: call(by_node(g)), LIST),
  'numbers': (lambda g: call({c: dict(enumerate(n, 2)) for c, n in by_node(g).items()}), LIST),
  'AutoDL-Projects': (of_autodl, 'AutoDL-Projects'),
  'GDAS': (of_gdas, LIST),
  'native': (genotype.to_json, 'the native form'),
  'our repr': (repr, 'the native form'),
  'FairDARTS': (of_fair_darts, 'FairDARTS'),
  'NNI': (lambda g: json.dumps(nni(g, lambda src: src)), "NNI's form"),
  'NNI, lists': (lambda g: str(nni(g, lambda src: [src])), "NNI's form"),
  'old NNI': (old_nni_numbers, OLD),
  'old NNI, names': (old_nni_names, OLD),
  'old NNI, truth values': (old_nni_truths, OLD),
  'NASLib': (of_naslib, "NASLib's compact form"),
  'NAS-Bench-301': (in_result_of_bench_301, "NAS-Bench-301's form"),
  'ConfigSpace': (of_config_space, "NAS-Bench-301's form"),
  'new ConfigSpace': (lambda g: f'Configuration(values={bench_301(g)})', "NAS-Bench-301's form"),
  'a result': (lambda g: json.dumps({'x': 0.9, 'genotype': g.to_dict()}), 'the native form'),
  'a text in a result': (lambda g: json.dumps({'genotype': call(flat(g))}), "DARTS' form"),
}


def in_order(found):
  """The cells with the inputs of each node in order, which some forms lose."""
  return [sorted(getattr(found, cell), key=lambda e: (e[2], e[1], e[0])) for cell in TYPES]


def has_parallel_edges(found):
  return any(len({e[1:] for e in getattr(found, c)}) < len(getattr(found, c)) for c in TYPES)


@pytest.mark.parametrize('form', FORMS)
def test_every_cell_of_the_zoo_is_read_in_every_form(form):
  write, name = FORMS[form]
  cells = [zoo.GENOTYPES[n] for n in CELLS if not has_parallel_edges(zoo.GENOTYPES[n])]
  assert len(cells) >= 15
  for found in cells:
    read = genotype.read_form(write(found))
    assert name in read.form
    assert in_order(read.genotype) == in_order(found)
    assert read.genotype.normal_concat == read.genotype.reduce_concat == (2, 3, 4, 5)


def test_a_cell_that_was_read_has_the_published_size():
  found = genotype.read(FORMS['NAS-Bench-301'][0](V2))
  assert sizes.count_params(found, channels=36, num_layers=20, num_classes=10) == 3_349_342


def test_forms_for_any_in_degree_and_loose_ends():
  nodes = [[('skip_connect', 0)], [('sep_conv_3x3', i) for i in range(3)]]
  found = genotype.read(call({'normal': nodes, 'reduce': nodes}, '[3]'))
  assert found.normal == (('skip_connect', 0, 2), *[('sep_conv_3x3', i, 3) for i in range(3)])
  assert found.normal_concat == (3,)
  amoeba = zoo.GENOTYPES['AmoebaNet-A']
  assert genotype.read(repr(amoeba)) == genotype.read(genotype.to_darts_text(amoeba)) == amoeba


# ---- where a form says less, or more -------------------------------------------------------------


@pytest.mark.parametrize(
  'text, words',
  [
    (FORMS['NNI'][0](V2), 'does not say which nodes are concatenated: all of them are, as'),
    (FORMS['NASLib'][0](V2), "operations are numbers, in NASLib's order: 0 max_pool_3x3, "),
    (FORMS['JSON'][0](V2), "left out: 'x'"),
    (FORMS['old NNI'][0](V2), 'sepconv3x3 is read as sep_conv_3x3'),
    (TEXT.replace('sep_conv_3x3', 'dua_sepc_3x3'), 'dua_sepc_3x3 is read as sep_conv_3x3'),
    (TEXT.replace("('dil_conv_3x3', 2)", "('none', 2)"), 'normal: 1 edges of the operation none'),
    (TEXT.replace(', normal_concat=range(2, 6)', ''), 'does not say which nodes are concatenated'),
  ],
)  # fmt: skip
def test_a_note_says_how_the_form_was_read(text, words):
  assert any(words in note for note in genotype.read_form(text).notes)


def test_a_plain_text_needs_no_note():
  assert genotype.read_form(TEXT) == (V2, "DARTS' form", ())


def test_an_operation_for_each_edge():
  entries = [('none' if src == 1 or dst == 3 else 'sep_conv_3x3', src) for src, dst in EDGES]
  read = genotype.read_form(call({'normal': entries, 'reduce': entries}))
  kept = [(src, dst) for src, dst in EDGES if src not in (1, 3) and dst != 3]
  assert [edge[1:] for edge in read.genotype.normal] == kept
  assert read.genotype.normal_concat == (2, 4, 5) and 'SNAS' in read.form
  assert 'normal: nodes without an input are left out: 3' in read.notes


@pytest.mark.parametrize(
  'text, words',
  [
    ('', 'the text is empty'),
    ('hello', "the text 'hello' holds no genotype"),
    ('{"normal": [], "normal_concat": []}', 'reduce is missing; a genotype has normal, '),
    ('{"normal": 3, "reduce": 4}', 'normal is 3; it must be a list of edges'),
    ('Genotype(normal=normal, reduce=r)', 'normal is normal; it must be a list'),
    (TEXT[:-60], 'where a value belongs stands '),
    (TEXT[:-20], "the text ends"),
    (TEXT.replace('sep_conv_3x3', 'nor_conv_3x3'), "'nor_conv_3x3' belongs to NAS-Bench-201"),
    ('|nor_conv_3x3~0|+|skip_connect~0|none~1|', 'a cell of NAS-Bench-201'),
    (TEXT.replace('sep_conv_3x3', 'sep_conv_3'), "'sep_conv_3' is unknown; did you mean sep_"),
    (TEXT.replace('sep_conv_3x3', 'mine'), "'mine' is unknown; known are max_pool_3x3, .* 2 more"),
    (TEXT.replace(", ('dil_conv_3x3', 2)", ''), 'normal has 7 entries; in this form each node has'),
    (TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 2.5)"), 'whole numbers'),
    (TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)"), 'whole numbers'),
    (TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 7)"), 'src must be at least 0 and less'),
    (TEXT.replace('range(2, 6)', 'range(2, 10**9)'), 'belongs'),
    (TEXT.replace('range(2, 6)', 'range(2, 999999)'), 'is longer than a cell'),
    (TEXT.replace('range(2, 6)', 'range(2, 7)'), 'normal_concat holds 6'),
    (TEXT.replace('normal_concat', 'normal'), 'the key .normal. is repeated'),
    (of_autodl(V2).replace('connectN=None', 'connectN=4'), 'connectN is 4; it changes how'),
    (FORMS['NNI'][0](V2).replace('input_2_1', 'input_2_9'), 'normal/.*_2_. is missing'),
    (of_config_space(V2).replace('inputs_node_normal_3', 'x'), 'inputs_node_normal_3 is None'),
    (of_fair_darts(V2).replace('4, 1)', '1, 4)'), 'src must be less than dst'),
    ('Genotype(normal=__import__("os").getcwd(), reduce=[])', 'a comma or . belongs'),
  ],
)  # fmt: skip
def test_a_wrong_text_is_named(text, words):
  with pytest.raises(ValueError, match=words):
    genotype.read(text)


def test_an_operation_of_ones_own_is_allowed_by_name():
  text = TEXT.replace('sep_conv_3x3', 'nor_conv_3x3')
  assert genotype.read(text, operations=('nor_conv_3x3',)).normal[0][0] == 'nor_conv_3x3'
