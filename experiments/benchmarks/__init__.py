"""Measurements of speed: against PyTorch, with growing networks, and on a GPU."""
