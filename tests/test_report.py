"""The page of a run: its content in every state, hostile names, and a real browser."""

import html
import json
import re
import shutil
import time
import types

import past_runs
import pytest
from browser import PROGRAM, Browser
from helpers import ROOT, tiny_search
from report_runs import write_search, write_training

import stretchnas_jax
from stretchnas_jax import report as command
from stretchnas_jax.cells.space import nas_bench_201
from stretchnas_jax.runs import json_files, outputs, report, report_confusion
from stretchnas_jax.views import heat_map, line_chart, page

HOSTILE = ('<script>alert(1)</script>', '"><img src=http://x.invalid/a>', 'a\x1b[31m\x00b',
           '\u202egnp.exe', 'שלום', "'&quot;</title>", '{{7*7}}')  # fmt: skip


def page_of(path):
  text = report.write(path).read_text()
  assert outputs.is_marked(path / 'report.html')
  return text


def words_of(text):
  return ' '.join(html.unescape(re.sub(r'<[^>]+>', ' ', text.split('<main')[1])).split())


def test_a_search_says_what_ran_how_good_how_certain_and_how_to_repeat_it(tmp_path):
  words = words_of(page_of(write_search(tmp_path / 'run', classes=('cat', 'dog'))))
  for wanted in (
    'Method stretchable cells, softmax, first order', 'Config digits', 'Data digits',
    'Validation accuracy 85.00%', 'Choices decided', 'Near ties',
    'Epochs 12 of 12', 'stretchnas search --config=digits', 'search.epochs 12 50', 'jax 0.10.2',
    'abc123', 'cat 10', 'dog 11', '123,456 weights', 'decided', 'topology output_subsets',
    'each node chooses any set of its out-edges', 'Short names: max max_pool_3x3',
    'the median lead of an operation is', 'All choices of the decoding',
  ):  # fmt: skip
    assert wanted in words, wanted


def test_the_page_loads_nothing_and_its_policy_allows_nothing(tmp_path):
  text = page_of(write_search(tmp_path / 'run'))
  (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
  assert policy.startswith("default-src 'none'") and 'unsafe' not in policy
  assert not re.findall(r'(?:src|href)="(?!#|data:)', text)
  assert 'style="' not in text and '@import' not in text and 'url(' not in text
  assert not re.findall(r'\son\w+=', text.split('<script')[0])


def test_sizes_and_times_stay_small(tmp_path):
  text = page_of(write_search(tmp_path / 'fifty', 50, nodes=5))
  assert len(text.encode()) < 2_000_000
  long = write_search(tmp_path / 'long', 200, nodes=3)
  begin = time.process_time()
  page_of(long)
  assert time.process_time() - begin < 5


@pytest.mark.parametrize('kind', ['output_subsets', 'input_pairs', 'none'])
def test_the_last_epoch_stands_on_the_page_without_a_script(tmp_path, kind):
  path = write_search(tmp_path / 'run', 6, kind=kind)
  text, cell = page_of(path), json.loads((path / 'genotype.json').read_text())
  for name in ('normal', 'reduce'):
    drawing = text.split(f'id="graph-{name}"')[1].split('</svg>')[0]
    kept = [part for part in re.findall(r'class="edge ([a-z ]+)"', drawing) if part != 'gone']
    assert len(kept) == len(cell[name])
  assert 'id="slider" hidden' in text and ('id="heat-beta-normal"' in text) == (kind != 'none')
  data = json.loads(re.findall(r'id="page-data">(.*?)</script>', text)[0])
  assert data['epochs'] == list(range(1, 7)) and len(data['lines']) == 6
  assert sum(map(bool, data['cells']['normal']['kept'][-1])) == len(cell['normal'])


@pytest.mark.parametrize('done', [0, 1, 4])
def test_a_search_that_is_not_finished_says_so(tmp_path, done):
  words = words_of(page_of(write_search(tmp_path / 'run', done=done, finished=False)))
  text = (tmp_path / 'run' / 'report.html').read_text()
  assert f'not finished, {done} of 12 epochs are done' in text
  assert ('No epoch is done yet' in words) == (done == 0)


@pytest.mark.parametrize(
  'file', ['config.json', 'run.json', 'result.json', 'metrics.jsonl', 'genotypes.jsonl',
           'scores.jsonl', 'space.json', 'identity.json'],
)  # fmt: skip
@pytest.mark.parametrize('content', [b'{"a"', b'[]', b'{}', b'\xff\xfe\n\x00\n'])
def test_a_damaged_run_still_has_a_page(tmp_path, file, content):
  path = write_search(tmp_path / 'run', 3)
  (path / file).write_bytes(content)
  text = page_of(path)
  assert '</html>' in text and 'How to repeat it' in text


def test_the_slider_has_a_place_for_each_known_epoch(tmp_path):
  path = write_search(tmp_path / 'run', 5)
  lines = (path / 'scores.jsonl').read_text().split('\n')
  (path / 'scores.jsonl').write_text('\n'.join([*lines[:2], '{"damaged', *lines[3:]]))
  text = page_of(path)
  data = json.loads(re.search(r'id="page-data">(.*?)</script>', text)[1])
  assert data['epochs'] == [1, 2, 4, 5] and 'max="3" value="3"' in text


def test_labels_have_room_for_two_operations_on_an_edge(tmp_path):
  one, two = (write_search(tmp_path / name, 2) for name in ('one', 'two'))
  lines = json_files.read_lines(two / 'genotypes.jsonl')
  for line in lines:
    line['genotype']['normal'] += [['dil_conv_5x5', 0, 2], ['sep_conv_3x3', 0, 2]]
  (two / 'genotypes.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
  width = lambda path: float(re.search(r'id="graph-normal"[^>]*width="([\d.]+)', page_of(path))[1])
  assert width(two) > 1.1 * width(one)


def test_values_of_another_type_leave_the_rest_of_a_page(tmp_path):
  path = write_search(tmp_path / 'run', 3, finished=False)
  wrong = {'data': {'parts': {'train': [1]}, 'warnings': 5}}
  (path / 'run.json').write_text(json.dumps(json.loads((path / 'run.json').read_text()) | wrong))
  lines = json_files.read_lines(path / 'metrics.jsonl')
  lines[1] |= {'val_accuracy': [], 'seconds': 'long', 'penalty': {}}
  (path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
  words = words_of(page_of(path))
  assert 'How to repeat it' in words and 'Time 25 s' in words and 'Epochs 3 of 3' in words


@pytest.mark.parametrize('make', [write_search, write_training])
def test_hostile_names_are_plain_text(tmp_path, make):
  path = make(tmp_path / '<b>run&', classes=HOSTILE)
  text = page_of(path)
  assert '<script>alert' not in text and '<img src=http' not in text and '<b>run' not in text
  assert text.count('<script') == 2 and text.count('</title>') == text.count('<title>')
  assert not set(text) & {'\x1b', '\x00', '\u202e'}
  assert '&lt;script&gt;alert(1)' in text and 'שלום' in text


def test_runs_of_version_0_1_have_a_page(tmp_path):
  shutil.copytree(ROOT / 'tests' / 'fixtures' / 'runs_0_1', tmp_path / 'old')
  search = words_of(page_of(tmp_path / 'old' / 'search'))
  assert 'topology output_subsets' in search
  assert 'from Python' in words_of(page_of(tmp_path / 'old' / 'train'))


def test_the_table_of_nas_bench_201_is_drawn_as_a_curve(tmp_path):
  path = tmp_path / 'run'
  past_runs.write_search(path, 'none', space=nas_bench_201())
  lines = json_files.read_lines(path / 'genotypes.jsonl')
  for i, line in enumerate(lines):
    line |= {'table_accuracy': 90.0 - 10 * i, 'table_rank': 1000 * (i + 1)}
    line |= {'table_source': 'numbers of somebody'}
  (path / 'genotypes.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
  text = page_of(path)
  assert 'trained cell from 90.0% to 70.0%' in text
  assert 'Cell in the table 70.00%, rank 3,000' in words_of(text)
  assert 'The table: numbers of somebody.' in words_of(text)
  past_runs.write_training(tmp_path / 'training', lines[-1]['genotype'])
  training = page_of(tmp_path / 'training')
  assert 'The normal cell' in words_of(training) and training.count('class="input"') == 1


def test_a_training_shows_its_confused_classes_and_worst_images(tmp_path):
  path = write_training(tmp_path / 'run', classes=('cat', 'dog', 'fox'))
  text = page_of(path)
  words = words_of(text)
  for wanted in ('Test accuracy 97.00%', '3 images of cat were taken for fox', '34,567',
                 'cat, taken for fox (93%)', '3 of 93 images are wrong',
                 'The test has 100 images', 'node 2 = sep3(0) + skip(1)'):  # fmt: skip
    assert wanted in words, wanted
  assert text.count('src="data:image/png;base64,') == 3 and text.count('class="count') == 4
  for content in ('{}', '{"step": 6}', '{'):
    (path / 'confusion.json').write_text(content)
    assert 'is not known here' in words_of(page_of(path))


def test_the_command_writes_where_it_is_told(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  run = write_search(tmp_path / 'run', 2)
  (tmp_path / 'mine.html').write_text('mine')
  with pytest.raises(ValueError, match='this program did not write'):
    report.checked(run, 'mine.html')
  with pytest.raises(FileNotFoundError, match='is not a run'):
    report.checked(tmp_path)
  args = types.SimpleNamespace(run=str(run), out='x.html', force=False, images=0, trust=False)
  for _ in range(2):
    command.prepare(args)()
  assert '</html>' in (tmp_path / 'x.html').read_text()


def test_a_page_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(report, 'html_of', lambda *args: 1 / 0)
  report.at_the_end(write_search(tmp_path / 'run', 2), 1.0)
  assert 'report.html was not written: division by zero' in caplog.text


def test_a_real_search_ends_with_its_page(tmp_path):
  stretchnas_jax.run_search(tiny_search(**{'search.epochs': 1}), tmp_path)
  words = words_of((tmp_path / 'report.html').read_text())
  assert 'Epochs 1 of 1' in words and 'started from Python' in words


def test_the_confusion_of_a_kept_training_says_why_it_is_not_known(tmp_path, caplog):
  run = write_training(tmp_path / 'run')
  (run / 'confusion.json').unlink()
  assert not report_confusion.is_known(run)
  report.write(run, images=10)
  assert 'which classes are confused is not known' in caplog.text


def test_charts_leave_out_what_is_not_a_number():
  assert line_chart.svg('x', {'a': []}) == ''
  text = line_chart.svg('x', {'a': [(1, float('nan')), (2, 3.0)], 'b': [(1, 3.0), (2, 3.0)]})
  assert 'nan' not in text and '<circle' in text
  marks = line_chart.svg('x', {'a': [(1, 0.9), (2, 0.9)]}, percent=True)
  assert '>100%<' in marks and '>120%<' not in marks
  assert page.items([]) == '' and page.facts([('a', None)]) == ''


def test_different_names_stay_different_when_they_are_cut():
  assert heat_map.short(['cat', 'elephant', 'a\x1b'], 5) == ['cat', 'eleph', r'a\x1b']
  assert heat_map.short(['my_conv_1', 'my_conv_3', 'none'], 4) == ['nv_1', 'nv_3', 'none']
  assert heat_map.short(['aaaa1zzzz', 'aaaa2zzzz'], 4) == ['1', '2']


@pytest.mark.parametrize(
  'highest, marks', [(2.5e-6, '>1e-6<'), (2.0, '>0.5<'), (3e7, '>1e7<'), (400.0, '>100<')]
)
def test_numbers_beside_an_axis_are_short(highest, marks):
  text = line_chart.svg('x', {'a': [(1, 0.0), (2, highest)]})
  assert marks in text and not re.search(r'text-anchor="end">[^<]{7,}<', text)


# ---- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  if PROGRAM is None:
    pytest.skip('no Chromium is installed')
  with Browser(tmp_path_factory.mktemp('browser')) as found:
    yield found


def test_the_slider_redraws_the_cell_with_the_keyboard(tmp_path, browser):
  path = write_search(tmp_path / 'run', 8, nodes=4, classes=HOSTILE)
  page_of(path)
  browser.open(path / 'report.html')
  assert browser.complaints() == []
  graph = 'document.getElementById("graph-normal").outerHTML'
  heat = 'document.getElementById("heat-alpha-normal").outerHTML'
  assert not browser.value('document.getElementById("slider").hidden')
  last = browser.value(graph), browser.value(heat)
  browser.value('document.getElementById("epoch").focus()')
  for key in ('Home', 'ArrowRight'):
    browser.ask('Input.dispatchKeyEvent', type='keyDown', key=key, code=key,
                windowsVirtualKeyCode={'Home': 36, 'ArrowRight': 39}[key])  # fmt: skip
  assert browser.value('document.getElementById("number").textContent') == '2'
  assert 'validation accuracy' in browser.value('document.getElementById("line").textContent')
  assert (browser.value(graph), browser.value(heat)) != last
  browser.value('epoch.value = 7; epoch.dispatchEvent(new Event("input"))')
  assert browser.value('document.getElementById("number").textContent') == '8'
  kept = 'document.querySelectorAll("#graph-normal g.edge:not(.gone)").length'
  cell = json.loads((path / 'genotype.json').read_text())
  assert browser.value(kept) == len(cell['normal'])
  assert browser.complaints() == []


@pytest.mark.parametrize('make', [write_search, write_training])
@pytest.mark.parametrize('width', [375, 800, 1400])
def test_the_page_is_never_wider_than_the_window(tmp_path, browser, make, width):
  path = make(tmp_path / 'run', classes=HOSTILE)
  page_of(path)
  browser.resize(width)
  browser.open(path / 'report.html')
  assert browser.value('document.documentElement.scrollWidth') <= width
  assert browser.complaints() == []
  unnamed = '[...document.querySelectorAll("svg, img, input")].filter(e => !e.ariaLabel && !e.alt'
  assert browser.value(f'{unnamed} && !(e.labels && e.labels.length)).length') == 0


_CONTRAST = """[...document.querySelectorAll('p, dt, dd, th, td, li, summary, code, a')].map(e => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = parts(c).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  let back = e; let colour = 'rgba(0, 0, 0, 0)';
  while (back && colour === 'rgba(0, 0, 0, 0)') {
    colour = getComputedStyle(back).backgroundColor; back = back.parentElement; }
  const [one, other] = [light(getComputedStyle(e).color), light(colour)];
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05); })"""


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_texts_have_enough_contrast(tmp_path, browser, scheme):
  path = write_search(tmp_path / 'run', 4)
  page_of(path)
  features = [{'name': 'prefers-color-scheme', 'value': scheme}]
  browser.ask('Emulation.setEmulatedMedia', features=features)
  browser.open(path / 'report.html')
  assert min(browser.value(_CONTRAST)) >= 4.5


def test_without_a_script_the_last_epoch_is_shown(tmp_path, browser):
  path = write_search(tmp_path / 'run', 4)
  page_of(path)
  browser.ask('Emulation.setScriptExecutionDisabled', value=True)
  browser.open(path / 'report.html')
  shown = browser.ask('Page.captureScreenshot', format='png')['data']
  browser.ask('Emulation.setScriptExecutionDisabled', value=False)
  assert len(shown) > 10_000
