"""Published cells by name, with the figures that were published for them.

The cells stand in `zoo.json` beside this file. What our counters make of them is not kept here:
it is counted.
"""

import importlib.resources
import json
import types

from stretchnas_jax.cells import genotype, genotype_text


def _load():
  file = importlib.resources.files(__package__) / 'zoo.json'
  cells = json.loads(file.read_text('utf-8'))
  genotypes = {
    name: genotype.Genotype(*(cell[field] for field in genotype_text.FIELDS))
    for name, cell in cells.items()
  }
  published = {name: cell['published'] for name, cell in cells.items()}
  return types.MappingProxyType(genotypes), types.MappingProxyType(published)


# Name -> Genotype; and name -> the source of the cell, at times a note, and under 'cifar10' and
# 'imagenet' what was published: channels, layers, sizes, errors in percent as printed, source.
GENOTYPES, PUBLISHED = _load()
