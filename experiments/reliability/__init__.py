"""Campaigns against runs: damage, kills and hostile input, with what came of them."""
