"""The result of `experiments.agreement` as text."""

from experiments.benchmarks import processes

COLUMNS = {
  'float32': 'float32',
  'float64': 'float64',
  'rounding': "PyTorch's float32 from its float64",
}


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
    'no augmentation, no drop path; SGD as in the recipe. Largest difference, relative to the '
    'largest number of the same array:', '',
  ]  # fmt: skip
  for name, cell in result['cells'].items():
    lines += [f'| {name} | {" | ".join(COLUMNS.values())} |', '|---|' + '---|' * len(COLUMNS)]
    for row in cell['float32']:
      values = ' | '.join(f'{cell[column][row]:.1e}' for column in COLUMNS)
      lines.append(f'| {row.replace("_", " ")} | {values} |')
    lines.append('')
  return [
    *lines,
    'Logits are those of the first step, losses those of all, weights and running averages those '
    'after the last, each the largest difference of any array. Movement is the distance between '
    'the ends of both over the distance from the start. The logits of the evaluation are from the '
    "same weights and averages. PyTorch's running variances are unbiased, ours are not: they are "
    'compared after that factor, (n - 1) / n with n pixels a channel.', '',
    'Float64 says whether both compute the same. What float32 adds is rounding, amplified by the '
    'steps, presumably where a ReLU input near 0 changes sides; the last column is how far PyTorch '
    'alone is led by it.', '',
  ]  # fmt: skip


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
