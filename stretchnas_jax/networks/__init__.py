"""The networks: the supernet, the network of a fixed cell, and their sizes."""
