"""Weights of files of any kind, for our tools and for the hosts'."""

from pathlib import Path
from typing import Dict, Optional

from mmengine.runner import CheckpointLoader
from torch import Tensor

from .checkpoint import read_state_dict
from .compression import is_compressed_file, read_compressed

__all__ = ['load_from_safetensors', 'read_weights']


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


@CheckpointLoader.register_scheme(r'.*\.safetensors$', force=True)
def load_from_safetensors(
    filename: str, map_location: Optional[str] = None
) -> Dict:
    """Let mmengine load safetensors, which it does not know.

    With it ``load_from``, ``DetInferencer`` and the hosts' own tools take
    such files, compressed or not.

    Args:
        filename: The file.
        map_location: Not used: tensors are copied to where the model is.

    Returns:
        A checkpoint: ``state_dict`` and ``meta``.

    Raises:
        FileNotFoundError, ValueError: As :func:`read_weights`.
    """
    if is_compressed_file(Path(filename)):
        content = read_compressed(Path(filename))
        return dict(state_dict=content.state_dict, meta=content.meta)
    return dict(state_dict=read_state_dict(filename), meta={})
