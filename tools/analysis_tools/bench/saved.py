"""What autograd keeps for the backward pass."""

from dataclasses import dataclass
from typing import Callable, Dict, Tuple

import torch
from torch import Tensor, nn


@dataclass
class Saved:
    """Bytes that live from the forward to the backward pass.

    Attributes:
        activations: Bytes of everything that grows with the batch.
        weights: Bytes of copies of weights, cast or packed.
    """

    activations: int
    weights: int


def saved_bytes(forward: Callable[[], object], module: nn.Module) -> Saved:
    """Measure what a forward pass keeps; each storage counts once.

    Parameters and buffers do not count; inputs that are saved do. A tensor
    counts as a copy of weights if it has the shape of a parameter matrix, of
    its transpose, or of two or three square ones above each other.

    Args:
        forward: The forward pass; it is called once.
        module: The module that runs in it.

    Returns:
        The bytes that are kept.
    """
    own = {
        t.untyped_storage().data_ptr()
        for t in (*module.parameters(), *module.buffers())
    }
    shapes = set()
    for parameter in module.parameters():
        if parameter.dim() == 2:
            rows, columns = parameter.shape
            shapes |= {(rows, columns), (columns, rows)}
            if rows == columns:
                shapes |= {(n * rows, rows) for n in (2, 3)}
    # The tensors are kept: a freed address could be used again.
    kept: Dict[int, Tuple[Tensor, bool]] = {}

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address and address not in own:
            is_weight = tuple(tensor.shape) in shapes
            kept.setdefault(address, (tensor.detach(), is_weight))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        outputs = forward()
    sizes = [0, 0]
    for tensor, is_weight in kept.values():
        sizes[is_weight] += tensor.untyped_storage().nbytes()
    del outputs
    return Saved(*sizes)
