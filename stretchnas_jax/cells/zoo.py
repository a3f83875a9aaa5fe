"""Published cells by name, with the figures that were published for them.

The cells stand in `zoo.json` beside this file. It holds no figure of our own: sizes are counted
from the cells.
"""

import importlib.resources
import json
import types
from collections.abc import Mapping
from typing import Any

from stretchnas_jax.cells import genotype, genotype_text


def _load() -> tuple[Mapping[str, genotype.Genotype], Mapping[str, dict[str, Any]]]:
  file = importlib.resources.files('stretchnas_jax.cells') / 'zoo.json'
  cells = json.loads(file.read_text('utf-8'))
  genotypes = {
    name: genotype.Genotype(*(cell[field] for field in genotype_text.FIELDS))
    for name, cell in cells.items()
  }
  published = {name: cell['published'] for name, cell in cells.items()}
  return types.MappingProxyType(genotypes), types.MappingProxyType(published)


# Name -> Genotype. And name -> the source of the cell, at times a note, and under 'cifar10' and
# 'imagenet' the published figures: channels, layers, sizes, errors in percent as printed, source.
GENOTYPES, PUBLISHED = _load()
