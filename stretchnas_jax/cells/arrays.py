"""Array types that annotations share; shapes are written as `Float[AnyArray, 'E O']`."""

import jax
import numpy as np

AnyArray = jax.Array | np.ndarray
"""An array of JAX or of NumPy."""
