"""Update rules, losses and optimisers: how a search or a training learns."""
