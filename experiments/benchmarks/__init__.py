"""Measurements of speed: against PyTorch, and as networks grow."""
