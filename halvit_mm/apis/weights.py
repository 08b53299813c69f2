"""Weights of files of any kind."""

from pathlib import Path
from typing import Dict

from torch import Tensor

from ..checkpoint import read_state_dict
from ..compression import is_compressed_file, read_compressed

__all__ = ['read_weights']


def read_weights(checkpoint: str) -> Dict[str, Tensor]:
    """Read a file of ``torch.save``, of safetensors, or a compressed one.

    Args:
        checkpoint: The file.

    Returns:
        Name -> tensor, of a compressed file those of the compressed model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    if is_compressed_file(Path(checkpoint)):
        return read_compressed(Path(checkpoint)).state_dict
    return read_state_dict(checkpoint)
