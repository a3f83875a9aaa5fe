"""Fast forms of the arithmetic of the networks."""
