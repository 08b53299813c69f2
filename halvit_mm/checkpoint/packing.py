"""Sparse factors in files: the kept values, and one bit per entry.

A factor ``NAME`` of a parametrised weight, with a mask beside it, is stored
as ``NAME.values``, its entries that are not pruned in the order of rows, and
``NAME.mask``, the mask packed eight to a byte.
"""

import math
from typing import Dict, List, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_BITS = torch.arange(7, -1, -1, dtype=torch.uint8)
_FACTOR = '.parametrizations.weight.original'
_MASK = '.parametrizations.weight.0.mask'


def pack(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """What to store of a compressed model's state dict, on the CPU."""
    packed = {}
    for name, tensor in state_dict.items():
        tensor = tensor.detach().cpu().contiguous()
        mask = state_dict.get(name.removesuffix(_FACTOR) + _MASK)
        if name.endswith(_FACTOR) and mask is not None:
            packed[f'{name}.values'] = tensor[mask.cpu()]
            packed[f'{name}.mask'] = _pack_bits(mask.cpu())
        elif not name.endswith(_MASK):
            packed[name] = tensor
    return packed


def unpack(
    tensors: Dict[str, Tensor], shapes: Dict[str, List[int]]
) -> Dict[str, Tensor]:
    """Undo :func:`pack`, without loss: pruned entries are 0.

    Args:
        tensors: What was stored.
        shapes: Name -> shape of each packed factor.

    Raises:
        EOFError: If a mask has too few bits for its shape.
    """
    tensors = dict(tensors)
    for name, shape in shapes.items():
        values = tensors.pop(f'{name}.values')
        bits = tensors.pop(f'{name}.mask')
        if math.prod(shape) > 8 * bits.numel():
            raise EOFError(f'{bits.numel()} bytes of {name}.mask for {shape}')
        mask = _unpack_bits(bits, shape)
        factor = values.new_zeros(shape)
        factor[mask] = values
        tensors[name] = factor
        tensors[name.removesuffix(_FACTOR) + _MASK] = mask
    return tensors


def _pack_bits(mask: Tensor) -> Tensor:
    """The entries of a mask as bits, (ceil(entries / 8),), uint8."""
    bits = F.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8))
    return (bits.view(-1, 8) << _BITS).sum(1, dtype=torch.uint8)


def _unpack_bits(packed: Tensor, shape: Sequence[int]) -> Tensor:
    bits = (packed[:, None] >> _BITS.to(packed.device)) & 1
    return bits.flatten()[: math.prod(shape)].bool().view(*shape)
