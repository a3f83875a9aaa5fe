"""What a person names on a command line, as objects."""

import pathlib

from stretchnas_jax.architecture import genotype, zoo


def genotype_from(name_or_path):
  """A genotype by its name in the zoo, or from a file or the folder of a search.

  Args:
    name_or_path: a key of `zoo.GENOTYPES`; a file in the native JSON form or in DARTS' text form;
      or the workdir of a search, whose `genotype.json` is meant.

  Returns:
    A `Genotype`.

  Raises:
    FileNotFoundError: there is nothing of that name.
    ValueError: the file holds no genotype.
  """
  if str(name_or_path) in zoo.GENOTYPES:
    return zoo.GENOTYPES[str(name_or_path)]
  path = pathlib.Path(name_or_path)
  if path.is_dir():
    if not (path / 'genotype.json').is_file():
      raise FileNotFoundError(f'{path} holds no genotype.json: no search has finished there')
    path = path / 'genotype.json'
  if not path.exists():
    names = ', '.join(sorted(zoo.GENOTYPES))
    raise FileNotFoundError(f'{str(name_or_path)!r} is no file, and no cell of the zoo: {names}')
  try:
    text = path.read_text('utf-8')
    native = text.lstrip()[:1] == '{'
    return genotype.from_json(text) if native else genotype.from_darts_text(text)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
