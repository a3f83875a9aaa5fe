"""The benchmark of looking at searches."""

from past_runs import write_search

from experiments.benchmarks import looking
from stretchnas_jax.runs import history, report


def test_a_search_is_lengthened_and_looked_at(tmp_path):
  run = tmp_path / 'run'
  write_search(run, epochs=3)
  looking.lengthen(run, 40)
  found = history.load_history(run)
  assert found.epochs.tolist() == list(range(1, 41)) and found.alpha['normal'].shape[0] == 40
  assert found.genotypes[3] == found.genotypes[0]
  assert report.write(run).stat().st_size < 2_000_000


def test_the_table_has_a_row_for_each_figure():
  numbers = {
    'machine': {'cpu': 'a chip'}, 'nodes': 6, 'epoch_seconds': 2.0, 'write_seconds': 0.01,
    'write_part': 0.005, 'line_bytes': 20_000, 'what_if_seconds': 0.5, 'page_epochs': 200,
    'page_seconds': 3.0, 'page_bytes': 1_500_000,
  }  # fmt: skip
  text = looking.markdown(numbers)
  assert text.startswith('A search on digits, S 6, 1 cell, on a chip.')
  assert '| its line of scores | 10.0 ms, 20,000 bytes | 0.50% of the epoch |' in text
  assert '| `report` of 200 epochs | 3.00 s | 1.5 MB |' in text
