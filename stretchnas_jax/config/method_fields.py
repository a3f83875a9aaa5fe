"""The fields of a search that choose a method: a group for each axis, see docs/methods.md."""

from stretchnas_jax.config.field import Field, above, at_least, below, whole

_RATE = above(0)

SPACE = {
  'space.name': Field('darts', 'the operations and where they may stand; s1 to s4: RobustDARTS'),
  'space.num_intermediate': Field(
    4, 'S, nodes of a cell between its inputs and its output', whole(1, 10)
  ),
  'space.with_none': Field(
    False, 'whether none is among the operations of the space darts, as in DARTS'
  ),
}

METHOD = {
  'model.partial_channels': Field(
    1, 'K; operations see one in K channels, the rest pass them by, as in PC-DARTS', whole(1)
  ),
  'model.auxiliary_skip': Field(
    False, 'whether each edge has a skip connection beside its operations, as in DARTS-'
  ),
  'model.auxiliary_annealing': Field(
    'linear_beyond', 'how the weight of these falls from 1 to 0 by epoch; constant: it stays 1'
  ),
  'model.final_norm': Field(
    False, 'batch norm and ReLU before the global mean of the supernet, as in DOTS and GDAS'
  ),
  'model.edge_drop': Field(
    0.0, 'probability with which an image loses an edge of the supernet in training', below(1)
  ),
  'model.skip_dropout': Field(
    0.0, "dropout of skip connections: P-DARTS' rate, which falls by epoch; 0: none", below(1)
  ),
  'topology.kind': Field('output_subsets', 'which edges a cell may keep; see the topology tables'),
  'topology.k': Field(2, 'edges per node; used by k_subsets and none', whole(1)),
  'topology.by': Field(
    None, 'end of the edges, for k_subsets (None: source) and none (None: target)', kind=str
  ),
  'topology.include_empty': Field(True, 'whether output_subsets holds the empty subset'),
  'topology.unit_scale': Field(
    False, 'whether scores of output_subsets begin at 1, in place of the scale of Eq. 13'
  ),
  'topology.penalty_weight': Field(10.0, 'lambda of Eq. 15, the weight of r(beta)', at_least(0)),
  'topology.annealed': Field(
    False, 'whether the temperature of the relaxation divides beta too, as in DOTS'
  ),
  'relaxation.kind': Field('softmax', 'makes weights of operations from alpha'),
  'relaxation.temperature': Field(1.0, 'of the relaxation, at the start', _RATE),
  'relaxation.final_temperature': Field(1.0, 'at the end; unused by a constant one', _RATE),
  'relaxation.annealing': Field(
    'constant', 'how the temperature changes by epoch; linear_beyond: the end is never reached'
  ),
  'relaxation.init_scale': Field(1e-3, 'standard deviation of the first alpha', at_least(0)),
  'relaxation.init_mean': Field(0.0, 'mean of the first alpha', at_least(-100, 100)),
  'relaxation.per_layer': Field(False, 'whether each layer has an alpha of its own'),
  'relaxation.noise': Field(
    True, 'straight_through: Gumbel noise, or else a draw by the probabilities'
  ),
  'relaxation.balance': Field(False, 'groups: whether the groups compete, as in the end of DOTS'),
  'penalty.zero_one': Field(0.0, "weight of Fair DARTS' zero-one loss; 0: none", at_least(0)),
  'penalty.logsumexp': Field(0.0, "weight of beta-DARTS' decay; 0: none", at_least(0)),
  'penalty.logsumexp_growth': Field(
    'constant', 'how that weight comes about by epoch; else constant, it begins at 0'
  ),
  'penalty.kl': Field(0.0, "weight of DrNAS' divergence from Dir(1); 0: none", at_least(0)),
  'penalty.cost': Field(
    0.0, 'weight of the expected cost, as a multiple of that of equal weights; 0: none', at_least(0)
  ),
  'penalty.cost_of': Field('macs', 'the kind of that cost'),
  'penalty.cost_logarithm': Field(
    0.0, "weight of SNAS' logarithms of the cost of each edge; 0: none", at_least(0)
  ),
  'rule.kind': Field('first_order', 'the gradients of alpha and beta'),
  'rule.val_weight': Field(1.0, "lambda' of Eq. 18; used by mixed", at_least(0)),
  'rule.weights_first': Field(False, 'whether the weights move first in a step'),
  'search.passes': Field(
    'auto', 'those for alpha and beta: in_turn, or together as one batch; auto: the latter on a GPU'
  ),
  'search.unroll': Field(False, 'faster steps, longer compilation'),
  'decoding.kind': Field(
    'auto', 'how a cell is read off; auto: the most probable codes, or the strongest edges'
  ),
  'decoding.k': Field(2, 'edges of a node that stay; unused by auto and all_edges', whole(1)),
  'decoding.threshold': Field(0.85, 'the smallest strength that stays, of threshold', at_least(0)),
  'decoding.max_skips': Field(2, 'skip connections of a normal cell, of capped', whole(0)),
}
