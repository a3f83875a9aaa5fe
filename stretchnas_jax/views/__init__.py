"""Drawings of cells, and charts."""
