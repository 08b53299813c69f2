"""The files that this package writes: complete, checked, with one header.

The header (:mod:`.header`) is in a safetensors file the metadata entry
``halvit_mm``, in a file of ``torch.save`` the dict under that key, beside
``meta`` and ``state_dict``, which the hosts read.
"""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .header import HEADER_KEY, VERSION, Header, host_meta, parse_header
from .model_types import check_model, check_pipeline
from .untrusted import load_torch, named_faults

_SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin', '.ckpt')


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Replace a file only when its new content is complete.

    Args:
        path: Keeps its old content until the new one is on the disk; a
            missing folder is made.

    Yields:
        A temporary file beside it, to write to.

    Raises:
        OSError: If it cannot be written, for example on a full disk.
    """
    part = Path(f'{path}.part')
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(part.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f'{path} cannot be written ({error}); what it held before is kept'
        ) from error


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_weights(
    path: Path,
    tensors: Dict[str, Tensor],
    *,
    format: str = 'dense',
    classes: Optional[Sequence[str]] = None,
    palette: Optional[Sequence] = None,
    variant: Optional[str] = None,
    model: Optional[dict] = None,
    test_pipeline: Optional[list] = None,
    **more,
) -> Header:
    """Write weights in the format that the file's name says.

    Args:
        path: Ends in ``.safetensors``, or in ``.pth``, ``.pt``, ``.bin`` or
            ``.ckpt`` for a file of ``torch.save``.
        tensors: Name -> tensor. A tensor under two names is stored twice,
            for safetensors refuses shared memory.
        format, classes, palette, model, test_pipeline: As :mod:`.header`
            describes them.
        variant: By default what the buffer ``variant`` of a HaLViT says.
        more: Entries that the format adds to the header, of JSON's types.

    Returns:
        The header.

    Raises:
        ValueError: For another ending of the name, or a model with types that
            are not allowed.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise ValueError(
            f'{path}: the name of a file of weights ends in one of '
            f'{", ".join(_SUFFIXES)}'
        )
    tensors = _separate(tensors)
    header = dict(
        format=format,
        version=VERSION,
        sha256=_checksum(tensors),
        classes=classes,
        palette=palette,
        variant=variant or _variant_of(tensors),
        model=model if model is None else check_model(model, path),
        test_pipeline=test_pipeline and check_pipeline(test_pipeline, path),
        **more,
    )
    text = json.dumps(header)
    header = json.loads(text)  # with lists for tuples, as it will be read
    content = dict(meta=host_meta(header), state_dict=tensors)
    with atomic_write(path) as part:
        if path.suffix == '.safetensors':
            # One entry: safetensors writes several in a random order.
            save_file(tensors, part, {HEADER_KEY: text})
        else:
            torch.save({**content, HEADER_KEY: header}, part)
    return header


def read_header(path: Path) -> Optional[Header]:
    """Read the header of a safetensors file, and none of its tensors.

    Args:
        path: Any file.

    Returns:
        The header; None for a file of another kind or without a header.

    Raises:
        ValueError: If the header has a version that is not known here.
    """
    if Path(path).suffix != '.safetensors' or not Path(path).is_file():
        return None
    try:
        with safe_open(path, framework='pt') as file:
            return parse_header(file.metadata() or {}, path)
    except SafetensorError:
        return None


def load_content(
    path: Path, device: str = 'cpu'
) -> Tuple[Any, Optional[Header]]:
    """Read a file, never executing what it holds, and check it.

    Args:
        path: A safetensors file or one of ``torch.save``.
        device: Where the tensors are to be.

    Returns:
        What the file holds, as it is stored, and its header or None.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, is damaged, holds more than
            data, or has a header that is not known here.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}')
    with named_faults(path):
        if Path(path).suffix == '.safetensors':
            with safe_open(path, framework='pt', device=str(device)) as file:
                metadata = file.metadata() or {}
                content = {k: file.get_tensor(k) for k in file.keys()}
            tensors = content
        else:
            content = load_torch(path, device)
            metadata = content if isinstance(content, dict) else {}
            tensors = metadata.get('state_dict', {})
        header = parse_header(metadata, path)
        if header is not None and _checksum(tensors) != header.get('sha256'):
            raise ValueError(f'{path} is damaged: its checksum does not fit')
    return content, header


def _variant_of(tensors: Dict[str, Tensor]) -> Optional[str]:
    for name, tensor in tensors.items():
        if name.split('.')[-1] == 'variant' and tensor.dtype == torch.uint8:
            return bytes(tensor.tolist()).decode().strip()
    return None


def _separate(tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Copies on the CPU of what shares memory with another tensor."""
    found, seen = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return found


def _checksum(tensors: Dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].cpu()
        digest.update(f'{name} {tensor.dtype} {list(tensor.shape)}'.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
