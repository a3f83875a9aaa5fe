"""The result of `experiments.agreement` as text."""

import statistics

from experiments.benchmarks import processes

# Of a cell's lists -> how they are headed.
COLUMNS = {
  'float64': 'ours, float64: largest',
  'float32': 'ours, float32: median (largest)',
  'pytorch': 'PyTorch, float32: median (largest)',
}
JUMP = 1e-4  # a movement in the first step that rounding of the weights does not explain


def markdown(results):
  """The text of `agreement.md`, of the sections that are there."""
  parts = {'exact': exact_lines, 'training': training_lines}
  lines = [line for name, part in parts.items() if name in results for line in part(results[name])]
  return '\n'.join(['# Agreement with PyTorch', '', *lines])


def about(result):
  """Images, machine, versions and date of a section."""
  machine, versions = result['machine'], result['versions']
  used = ', '.join(f'{name} {versions[name]}' for name in processes.PACKAGES if versions[name])
  place = f'{machine["cpu"]}, {machine["cores"]} cores'
  return f'{result["images"]}. {place}; {used}; {result["date"][:10]}.'


def exact_lines(result):
  lines = [
    f'## {result["steps"]} steps from the same weights', '', about(result), '',
    f'C {result["channels"]}, {result["layers"]} layers, auxiliary head, batch {result["batch"]}, '
    'no augmentation, no drop path; SGD as in the recipe; weights drawn from '
    f"{result['starts']} seeds. Differences from PyTorch's float64, relative to the largest number "
    'of the same array:', '',
  ]  # fmt: skip
  for name, cell in result['cells'].items():
    lines += [f'| {name} | {" | ".join(COLUMNS.values())} |', '|---|' + '---|' * len(COLUMNS)]
    for row in cell['float32'][0]:
      cells = [figure(column, [start[row] for start in cell[column]]) for column in COLUMNS]
      lines.append(f'| {row.replace("_", " ")} | {" | ".join(cells)} |')
    lines += ['', jumps(cell), '']
  return [
    *lines,
    'Logits are those of the first step, losses those of all, weights and running averages those '
    'after the last, each the largest difference of any array. Movement is the distance between '
    'the ends of both over the distance from the start, of all weights. The logits of the '
    "evaluation are from the same weights and averages. PyTorch's running variances are unbiased, "
    'ours are not: they are compared after that factor, (n - 1) / n with n pixels a channel. '
    'PyTorch clips by the norm + 1e-6, which float64 shows where a gradient is clipped.', '',
    'Float64 says whether both compute the same. In float32 a gradient is either right to some '
    '1e-6, or off by 1e-5 to 1e-2 where rounding put the input of a ReLU, or the largest pixel '
    'of a max pool, on its other side: chance in both, which further steps amplify.', '',
  ]  # fmt: skip


def figure(column, values):
  """The largest of all starts, in float32 after their median."""
  if column == 'float64':
    return f'{max(values):.1e}'
  return f'{statistics.median(values):.1e} ({max(values):.1e})'


def jumps(cell):
  """In how many starts the first step goes astray by more than rounding."""
  count = lambda name: sum(start['first_movement'] > JUMP for start in cell[name])
  return (
    f'First movements above {JUMP:g}: {count("float32")} of {len(cell["float32"])} starts of ours, '
    f"{count('pytorch')} of PyTorch's."
  )


def training_lines(result):
  lines = [
    f'## {result["epochs"]} epochs, each side with its own chance', '', about(result), '',
    f'C {result["channels"]}, {result["layers"]} layers, {result["train_images"]:,} training and '
    f'{result["test_images"]:,} test images; otherwise the recipe of `configs/train_cifar10.py`: '
    'batch 96, rate 0.025 to 0, crop, flip, cutout 16, drop path to 0.2, auxiliary head.', '',
    '| cell | n | test accuracy | test loss |', '|---|---|---|---|',
  ]  # fmt: skip
  for name, cell in result['cells'].items():
    figures = f'{spread(cell, "test_accuracy")} | {spread(cell, "test_loss")}'
    lines.append(f'| {name} | {cell["n"]} | {figures} |')
  lines += ['', 'Means and standard deviations (n - 1). The first row less the second:', '']
  for name, test in result['ours_less_peer'].items():
    lines.append(
      f'- {name.replace("_", " ")} {test["difference"]:+.4f}, standard error '
      f'{test["standard_error"]:.4f}, 95 % interval {test["interval"][0]:+.4f} to '
      f'{test["interval"][1]:+.4f}; t {test["t"]:.2f}, p {test["p"]:.2f} (Welch): '
      f'{"within" if test["within_noise"] else "beyond"} the noise'
    )
  return [*lines, '']


def spread(cell, name):
  """Mean, and deviation where there is one."""
  deviation = cell[f'{name}_std']
  return f'{cell[name]:.4f}' + ('' if deviation is None else f' ± {deviation:.4f}')
