"""States of a calibration: whose they are, and written whole or not at all."""

import hashlib
import json
from pathlib import Path
from typing import Sequence

import torch
from torch import Tensor

from .files import written_whole
from .targets import Unit

__all__ = ['digest_of', 'save_atomically']


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


def save_atomically(state: dict, path: Path) -> None:
    """Write a file whole or not at all.

    Args:
        state: For ``torch.save``.
        path: Keeps what it held until the new one is complete.

    Raises:
        OSError: If it cannot be written, for example on a full disk.
    """
    with written_whole(path) as part:
        torch.save(state, part)
