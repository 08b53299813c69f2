"""The operators for any device and float dtype, by PyTorch's kernels.

Each casts an input and a weight once, adds the two gradients of a tied matrix
inside the second product, and saves no hidden units: the backward pass
computes ``gelu(u)`` again. Arguments and results: :mod:`..schemas`.
"""

from ..schemas import SCHEMAS
from . import attention, feed_forward, layer_norm

__all__ = ['KERNELS']

#: Operator's name -> its function.
KERNELS = {
    name: getattr(module, name)
    for module in (layer_norm, attention, feed_forward)
    for name in SCHEMAS
    if hasattr(module, name)
}
