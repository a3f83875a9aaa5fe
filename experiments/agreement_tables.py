"""The result of `experiments.agreement` as text."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmarks import processes

# The lists of a cell, and the heads of their columns.
_COLUMNS = {
  'float64': 'ours, float64: largest',
  'float32': 'ours, float32: median (largest)',
  'pytorch': 'PyTorch, float32: median (largest)',
}
_JUMP = 1e-4  # rounding of the weights does not explain a larger first movement

_EXACT_NOTES = (
  'Logits are those of the first step, losses those of all, weights and running averages those '
  'after the last, each the largest difference of any array. Movement is the distance between '
  'the ends of both over the distance from the start, of all weights. The logits of the '
  "evaluation are from the same weights and averages. PyTorch's running variances are unbiased, "
  'ours are not: they are compared after that factor, (n - 1) / n with n pixels a channel. '
  'PyTorch clips by the norm + 1e-6, which float64 shows where a gradient is clipped.',
  '',
  'Float64 says whether both compute the same. In float32 a gradient is either right to some '
  '1e-6, or off by 1e-5 to 1e-2 where rounding put the input of a ReLU, or the largest pixel '
  'of a max pool, on its other side: chance in both, which further steps amplify.',
  '',
)


def markdown(results: Mapping[str, Any]) -> str:
  """Returns the text of `agreement.md`, with the sections that are there.

  Args:
    results: the content of `agreement.json`.
  """
  lines = ['# Agreement with PyTorch', '']
  if 'exact' in results:
    lines += _exact_lines(results['exact'])
  if 'training' in results:
    lines += _training_lines(results['training'])
  return '\n'.join(lines)


def _about(result: Mapping[str, Any]) -> str:
  """Returns the images, the machine, the versions and the date of a section."""
  machine, versions = result['machine'], result['versions']
  used = ', '.join(f'{name} {versions[name]}' for name in processes.PACKAGES if versions[name])
  place = f'{machine["cpu"]}, {machine["cores"]} cores'
  return f'{result["images"]}. {place}; {used}; {result["date"][:10]}.'


# ---- steps ---------------------------------------------------------------------------------------


def _exact_lines(result: Mapping[str, Any]) -> list[str]:
  """Returns the section on steps from the same weights."""
  lines = [
    f'## {result["steps"]} steps from the same weights', '', _about(result), '',
    f'C {result["channels"]}, {result["layers"]} layers, auxiliary head, batch {result["batch"]}, '
    'no augmentation, no drop path; SGD as in the recipe; weights drawn from '
    f"{result['starts']} seeds. Differences from PyTorch's float64, relative to the largest number "
    'of the same array:', '',
  ]  # fmt: skip
  for name, cell in result['cells'].items():
    lines += [f'| {name} | {" | ".join(_COLUMNS.values())} |', '|---|' + '---|' * len(_COLUMNS)]
    for row in cell['float32'][0]:
      texts = [_figure(column, [start[row] for start in cell[column]]) for column in _COLUMNS]
      lines.append(f'| {row.replace("_", " ")} | {" | ".join(texts)} |')
    lines += ['', _jumps(cell), '']
  return [*lines, *_EXACT_NOTES]


def _figure(column: str, values: Sequence[float]) -> str:
  """Returns the largest of all starts; in float32 after their median."""
  if column == 'float64':
    return f'{max(values):.1e}'
  return f'{statistics.median(values):.1e} ({max(values):.1e})'


def _jumps(cell: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
  """Returns how many first steps went further than rounding explains."""
  ours, peer = (
    sum(start['first_movement'] > _JUMP for start in cell[name]) for name in ('float32', 'pytorch')
  )
  return (
    f'First movements above {_JUMP:g}: {ours} of {len(cell["float32"])} starts of ours, '
    f"{peer} of PyTorch's."
  )


# ---- trainings -----------------------------------------------------------------------------------


def _training_lines(result: Mapping[str, Any]) -> list[str]:
  """Returns the section on whole trainings."""
  lines = [
    f'## {result["epochs"]} epochs, each side with its own chance', '', _about(result), '',
    f'C {result["channels"]}, {result["layers"]} layers, {result["train_images"]:,} training and '
    f'{result["test_images"]:,} test images; otherwise the recipe of `configs/train_cifar10.py`: '
    'batch 96, rate 0.025 to 0, crop, flip, cutout 16, drop path to 0.2, auxiliary head.', '',
    '| cell | n | test accuracy | test loss |', '|---|---|---|---|',
  ]  # fmt: skip
  for name, cell in result['cells'].items():
    accuracy, loss = (_mean_and_std(cell, field) for field in ('test_accuracy', 'test_loss'))
    lines.append(f'| {name} | {cell["n"]} | {accuracy} | {loss} |')
  lines += ['', 'Means and standard deviations (n - 1). The first row less the second:', '']
  for name, test in result['ours_less_peer'].items():
    lines.append(f'- {name.replace("_", " ")} {_test_text(test)}')
  return [*lines, '']


def _test_text(test: Mapping[str, Any]) -> str:
  """Returns a difference and its test as text."""
  low, high = test['interval']
  return (
    f'{test["difference"]:+.4f}, standard error {test["standard_error"]:.4f}, '
    f'95 % interval {low:+.4f} to {high:+.4f}; t {test["t"]:.2f}, p {test["p"]:.2f} (Welch): '
    f'{"within" if test["within_noise"] else "beyond"} the noise'
  )


def _mean_and_std(cell: Mapping[str, Any], field: str) -> str:
  """Returns the mean, and the deviation where there is one."""
  std = cell[f'{field}_std']
  return f'{cell[field]:.4f}' if std is None else f'{cell[field]:.4f} ± {std:.4f}'
