"""The fields of a search that decide on its way: phases, monitors and budgets."""

from stretchnas_jax.config.field import Field, above, at_least, dicts, whole

_PART, _RATE = at_least(0, 1), above(0)

DECISIONS = {
  'search.phases': Field(
    (),
    'dicts, one for each phase: epochs, fields such as model.num_layers, new, keep; see docs',
    dicts(),
  ),
  'monitor.skips': Field(
    0, 'skip connections in the normal cell that end the search; 0: never', whole(0)
  ),
  'monitor.min_epochs': Field(0, 'epochs before skip connections may end the search', whole(0)),
  'monitor.same_ranking': Field(
    0, 'epochs without a change in the ranking of operations that end it; 0: never', whole(0)
  ),
  'monitor.prune': Field(
    0, 'operations that fall after an epoch, the weakest gates; 0: none', whole(0)
  ),
  'monitor.prune_below': Field(0.05, 'the gate below which these fall', _PART),
  'monitor.prune_always': Field(0.01, 'the gate below which every operation falls', _PART),
  'monitor.cost_step': Field(
    0.01, 'first step by which the weight of the cost grows where few operations fall', _RATE
  ),
  'monitor.cost_floor': Field(
    0.0, 'the cost of the cell at which gradual pruning ends; 0: it does not', at_least(0)
  ),
  'budget.params': Field(
    None, 'weights to which the expected size of the network is drawn', _RATE, float
  ),
  'budget.macs': Field(
    None, 'multiply-adds of an image to which the expected cost is drawn', _RATE, float
  ),
  'budget.channels': Field(
    None, 'C of the network that the budget is for; None: that of the search', whole(1), int
  ),
  'budget.num_layers': Field(None, 'its cells; None: as many as in the search', whole(1), int),
  'budget.gain': Field(
    1.0,
    'strength of the pull, and growth of its weight after an epoch at e times the budget',
    _RATE,
  ),
  'budget.most': Field(100.0, 'the largest weight of the cost', _RATE),
}
"""The phases of a search, and what is decided at the end of each epoch."""
