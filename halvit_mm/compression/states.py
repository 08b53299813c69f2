"""Whose a state of a calibration is."""

import hashlib
import json
from typing import Sequence

import torch
from torch import Tensor

from .targets import Unit

__all__ = ['digest_of']


def digest_of(
    units: Sequence[Unit], batches: Sequence[Tensor], *settings
) -> str:
    """Of what settles a result, before anything is computed.

    Args:
        units: Of the original: their weights count.
        batches: Images: their number counts, and the first one.
        settings: Anything for JSON.

    Returns:
        Hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps([settings, len(batches)]).encode())
    digest.update(_bytes(batches[0]))
    for unit in units:
        for name, tensor in unit.module.state_dict().items():
            digest.update(f'{unit.name}.{name} {list(tensor.shape)}'.encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().flatten()
    return memoryview(flat.view(torch.uint8).numpy())
