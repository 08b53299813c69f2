"""Compressed files: a dense base, packed values and one bit per entry.

A file is a safetensors file. Of a factor V it holds ``NAME.values``, its
entries that are not pruned, in the order of rows, and ``NAME.mask``, one bit
per entry, packed eight to a byte; everything else is stored under its own
name. The metadata hold the version, the structure and a checksum.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .files import written_whole
from .fips import Structure, attach_structure
from .parametrization import factors

__all__ = [
    'CompressedFile',
    'is_compressed_file',
    'load_compressed',
    'read_compressed',
    'save_compressed',
]

_BITS = torch.arange(7, -1, -1, dtype=torch.uint8)
_FORMAT, _VERSION = 'halvit_mm.fips', 1
_FACTOR = '.parametrizations.weight.original'
_MASK = '.parametrizations.weight.0.mask'


class CompressedFile(NamedTuple):
    """What a compressed file holds.

    Attributes:
        structures: One per group.
        state_dict: Of the compressed model, unpacked; pruned entries are 0.
        meta: What was given with it.
    """

    structures: List[Structure]
    state_dict: Dict[str, Tensor]
    meta: Dict


def save_compressed(
    model: nn.Module,
    structures: Sequence[Structure],
    path: Path,
    meta: Optional[Dict] = None,
) -> int:
    """Write a compressed model.

    Args:
        model: With factors.
        structures: Of :func:`.fips.prepare`.
        path: A ``.safetensors`` file, written whole or not at all.
        meta: Kept in the file, of JSON's types.

    Returns:
        Bytes of the file.

    Raises:
        OSError: If it cannot be written.
    """
    tensors = {}
    masks = {f'{f.name}{_FACTOR}': f.weight.mask.cpu() for f in factors(model)}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        if name in masks:
            mask = masks[name]
            tensors[f'{name}.values'] = tensor[mask]
            tensors[f'{name}.mask'] = _pack_bits(mask)
        elif not name.endswith(_MASK):
            tensors[name] = tensor
    content = dict(
        version=_VERSION,
        structures=structures,
        shapes={name: list(mask.shape) for name, mask in masks.items()},
        sha256=_checksum(tensors),
        meta=meta or {},
    )
    # One key: safetensors writes several in an order of its own each time.
    metadata = {_FORMAT: json.dumps(content)}
    with written_whole(path) as part:
        save_file(tensors, part, metadata)
    return Path(path).stat().st_size


def _pack_bits(mask: Tensor) -> Tensor:
    """Args: mask: Of any shape. Returns: (ceil(entries / 8),), uint8."""
    bits = F.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8))
    return (bits.view(-1, 8) << _BITS).sum(1, dtype=torch.uint8)


def _unpack_bits(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """Args: packed: Of :func:`_pack_bits`. Returns: The mask."""
    bits = (packed[:, None] >> _BITS) & 1
    return bits.flatten()[: math.prod(shape)].bool().view(*shape)


def _checksum(tensors: Dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f'{name} {tensor.dtype} {list(tensor.shape)}'.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_compressed(path: Path) -> CompressedFile:
    """Read a compressed file.

    Args:
        path: Of :func:`save_compressed`.

    Returns:
        Its content, lossless.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, cut short, or none of these files.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no compressed file {path}')
    try:
        with safe_open(path, framework='pt') as file:
            metadata = (file.metadata() or {}).get(_FORMAT)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f'{path} is damaged or cut short: {error}') from error
    if metadata is None:
        raise ValueError(f'{path} is no compressed file of FiPS')
    content = json.loads(metadata)
    if content['version'] != _VERSION:
        raise ValueError(
            f'{path} has version {content["version"]} of the format, this '
            f'code reads version {_VERSION}'
        )
    if _checksum(tensors) != content['sha256']:
        raise ValueError(f'{path} is damaged: its checksum does not fit')
    for name, shape in content['shapes'].items():
        values = tensors.pop(f'{name}.values')
        mask = _unpack_bits(tensors.pop(f'{name}.mask'), shape)
        factor = values.new_zeros(shape)
        factor[mask] = values
        tensors[name] = factor
        tensors[name.removesuffix(_FACTOR) + _MASK] = mask
    structures = map(Structure.from_json, content['structures'])
    return CompressedFile(list(structures), tensors, content['meta'])


def is_compressed_file(path: Path) -> bool:
    """Args: path: Any file. Returns: Whether it says that it is of FiPS."""
    if Path(path).suffix != '.safetensors' or not Path(path).is_file():
        return False
    try:
        with safe_open(path, framework='pt') as file:
            return _FORMAT in (file.metadata() or {})
    except SafetensorError:
        return False


def load_compressed(model: nn.Module, path: Path) -> List[Structure]:
    """Make a freshly built model the compressed one of a file.

    Args:
        model: Of the original architecture, without factors; changed.
        path: Of :func:`save_compressed`.

    Returns:
        The structures.

    Raises:
        ValueError: As :func:`read_compressed`, and if the file is of another
            architecture.
    """
    content = read_compressed(path)
    attach_structure(model, content.structures)
    try:
        model.load_state_dict(content.state_dict)
    except RuntimeError as error:
        raise ValueError(f'{path} does not fit the model: {error}') from error
    return content.structures
