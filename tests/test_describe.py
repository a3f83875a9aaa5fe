"""The command `describe`: sizes of a network, its cells, its published figures."""

import pytest

from stretchnas_jax import describe
from stretchnas_jax.cells import genotype, nas_bench_201, zoo
from stretchnas_jax.cli import app
from stretchnas_jax.networks import sizes


def run(*words):
  """Runs the command."""
  app.run(
    describe.prepare,
    config=False,
    options=describe.OPTIONS,
    positional=('genotype',),
    argv=['describe.py', *words],
  )


def test_sizes_cells_and_published_figures(capsys):
  run('DARTS_V2', '--channels=4', '--layers=3', '--classes=7')
  text = capsys.readouterr().out
  fields = {'channels': 4, 'num_layers': 3, 'num_classes': 7}
  cell = zoo.GENOTYPES['DARTS_V2']
  assert 'C 4, 3 layers, 7 classes, cifar stem, images of 32x32' in text
  assert f'{sizes.count_params(cell, **fields):,}' in text
  assert f'{sizes.count_params(cell, **fields, auxiliary=True):,} with the auxiliary head' in text
  assert f'{sizes.count_macs(cell, **fields):,}' in text
  assert f'{sizes.count_flops_ptflops(cell, **fields):,}' in text
  assert '  5 = skip_connect(0) + dil_conv_3x3(2)' in text
  assert 'normal     8 edges, depth 2, width 3.5' in text
  assert 'published  CIFAR-10: C 36, 20 layers, 3.3M parameters, 547M FLOPs' in text
  assert zoo.PUBLISHED['DARTS_V2']['imagenet']['source'] in text


def test_the_default_network_is_the_published_one(capsys):
  run('DARTS_V2')
  assert '3,349,342, 3,825,768 with the auxiliary head' in capsys.readouterr().out


CONVOLUTIONS = nas_bench_201.to_text(nas_bench_201.Cell(('nor_conv_3x3',) * 6))


def test_the_default_network_of_a_cell_of_nas_bench_201_is_that_of_its_accuracy(capsys):
  run(CONVOLUTIONS)
  text = capsys.readouterr().out
  assert 'C 16, 5 cells a stage, 10 classes' in text and 'params     1,531,546\n' in text
  run(CONVOLUTIONS, '--channels=4', '--layers=1')
  assert 'C 4, 1 cells a stage' in capsys.readouterr().out
  with pytest.raises(SystemExit):
    run('--help')
  assert 'number of cells; 20, or 5 a stage in NAS-Bench-201' in capsys.readouterr().out


def test_the_accuracy_of_a_cell_comes_from_a_table_of_the_user(capsys, tmp_path):
  path = tmp_path / 'own.csv'
  other = nas_bench_201.to_text(nas_bench_201.Cell(('none',) * 6))
  path.write_text(f'cell,accuracy\n{CONVOLUTIONS},91.5\n{other},94.25\n')
  run(CONVOLUTIONS, f'--table={path}')
  assert f'accuracy 91.50 %, rank 2 of 2, 2.75 points below the best cell\n({path})' in (
    capsys.readouterr().out
  )
  with pytest.raises(SystemExit):
    run(CONVOLUTIONS, '--table=none.csv')
  captured = capsys.readouterr()
  assert 'error: none.csv is not a file' in captured.err and not captured.out


def test_sizes_of_another_image_size(capsys):
  run('DARTS_V2', '--channels=4', '--layers=3', '--image-size=16,32')
  text = capsys.readouterr().out
  fields = {'channels': 4, 'num_layers': 3, 'num_classes': 10}
  macs = sizes.count_macs(zoo.GENOTYPES['DARTS_V2'], **fields, image_shape=(16, 32, 3))
  assert 'images of 16x32' in text and f'{macs:,}' in text
  assert 'do not fit the auxiliary head' in text


def test_a_file_has_no_published_figures(capsys, tmp_path):
  path = tmp_path / 'own.json'
  edges = [('skip_connect', 0, 2), ('sep_conv_3x3', 2, 4), ('skip_connect', 1, 4)]
  path.write_text(genotype.to_json(genotype.Genotype(edges, [4], edges, [4, 2])))
  run(str(path), '--channels=4', '--layers=1')
  text = capsys.readouterr().out
  assert 'published' not in text and 'auxiliary' not in text
  assert '  4 = sep_conv_3x3(2) + skip_connect(1)' in text
  assert '  output = 4, 2' in text


def test_channels_are_chosen_for_a_number_of_parameters(capsys):
  run('DARTS_V1', '--layers=2', '--target-params=20000')
  found = sizes.channels_for(zoo.GENOTYPES['DARTS_V1'], 20000, num_layers=2, num_classes=10)
  assert f'C {found}, 2 layers' in capsys.readouterr().out


def test_the_published_cells_are_listed(capsys):
  run('zoo')
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == list(zoo.GENOTYPES)


@pytest.mark.parametrize(
  'words, message',
  [
    (['DARTS_V2', '--image-size=big'], '--image-size=big: it must be a whole number of at least 8'),
    (['DARTS_V9'], "'DARTS_V9' is neither a file nor a cell of the zoo"),
    (['PCDARTS'], 'did you mean PC_DARTS_cifar or PC_DARTS_image?'),
    (['darts_v2'], 'did you mean DARTS_V2?'),
    (['darts-v2'], 'did you mean DARTS_V2?'),
    (['nothing-like-it'], 'PDARTS and 54 more (`describe zoo` lists them)'),
    (['DARTS_V2', '--channels=3', '--stem=imagenet'], 'channels is 3; it must be a positive even'),
    (['DARTS_V2', '--channels=0'], 'channels is 0'),
    (['DARTS_V2', '--channels=many'], '--channels=many: it must be a whole number'),
    (['DARTS_V2', '--table=own.csv'], 'only cells of NAS-Bench-201 stand in one'),
    (['DARTS_V2', '--layers=0'], 'num_layers is 0'),
    (['DARTS_V2', '--stem=mnist'], "stem is 'mnist'"),
    (['DARTS_V2', '--target-params=many'], "--target-params is 'many'"),
    (['DARTS_V2', '--target-params=-1'], "--target-params is '-1'"),
    (['DARTS_V2', '--target-params=nan'], "--target-params is 'nan'"),
    (['DARTS_V2', '--target-params='], '--target-params is empty'),
    ([], 'GENOTYPE is missing'),
  ],
)
def test_errors_are_one_line(words, message, capsys):
  with pytest.raises(SystemExit) as error:
    run(*words)
  captured = capsys.readouterr()
  assert error.value.code == 2 and captured.out == ''
  assert message in captured.err and captured.err.count('\n') == 1
