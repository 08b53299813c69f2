"""Files from elsewhere: read as data, and named where they are not whole."""

import os
import re
import struct
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Iterator

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..compat.checkpoints import only_mmengine_checkpoints
from .log import say

#: What torch, safetensors and zipfile raise for bytes that make no sense.
_DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    UnicodeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_DEPTH = 64  # of dicts and lists in one another; checkpoints have about ten
_trusted = False


def trust_files() -> None:
    """Let every file that this process loads from now on run its code.

    ``--unsafe-load`` of the tools calls it. Nothing else does.
    """
    global _trusted
    _trusted = True
    say('files of weights may run code: --unsafe-load')


def is_trusted() -> bool:
    """Whether :func:`trust_files` was called."""
    return _trusted


def load_torch(path: Path, device: Any = 'cpu') -> Any:
    """Read a file of ``torch.save`` as data, after a check of its sums.

    Args:
        path: The file, inside of :func:`named_faults`. The older format,
            which is no zip, has no checksums.
        device: As ``map_location`` of ``torch.load``.

    Raises:
        ValueError: If it holds more than data, is damaged, or would become
            larger in memory than it is; the message names the cure.
    """
    if zipfile.is_zipfile(path):
        check_whole(path)
    if _trusted:
        return torch.load(path, device, weights_only=False)
    with only_mmengine_checkpoints():
        try:
            content = torch.load(path, device, weights_only=True)
        except UnpicklingError as error:
            raise ValueError(_describe(path, error)) from error
        except ValueError as error:
            raise ValueError(_damaged(path, f'{error}')) from error
    _check_sizes(content, path)
    return content


def _describe(path: Path, error: UnpicklingError) -> str:
    """Torch's reason alone, without a page of advice to load it anyway."""
    reason = re.search(
        r'Unpickler error:\s*(.+?)( was not an|\n|$)', f'{error}'
    )
    reason = reason[1].rstrip('.') if reason else f'{error}'
    if 'operand' in reason:
        if not zipfile.is_zipfile(path):  # it has no checksums
            return _damaged(path, reason)
        reason += ', which only a pickle_protocol above 2 has'
    return (
        f'{path} is not a plain checkpoint: {reason}. Loading it could run '
        'code. If you trust whoever made it, add --unsafe-load (in Python, '
        'call halvit_mm.checkpoint.trust_files()), and save its state dict '
        'alone'
    )


def check_whole(path: Path) -> None:
    """Check a file of ``torch.save`` without loading it.

    Args:
        path: The file.

    Raises:
        ValueError: If it is cut short, its checksums do not fit, or it would
            unpack to more than its size: torch compresses nothing.
    """
    try:
        with zipfile.ZipFile(path) as file:
            unpacked = sum(info.file_size for info in file.infolist())
            is_larger = unpacked > os.path.getsize(path)
            damaged = None if is_larger else file.testzip()
    except (*_DAMAGED, ValueError) as error:
        raise ValueError(f'{path} is not whole: {error}') from error
    if is_larger:
        raise ValueError(
            f'{path} would unpack to {unpacked:,} bytes, more than it has: no '
            'checkpoint is compressed'
        )
    if damaged is not None:
        raise ValueError(f'{path} is damaged in {damaged}')


def _check_sizes(content: Any, path: Path) -> None:
    """Refuse tensors that few bytes stand for, and dicts in themselves."""
    size, level = os.path.getsize(path), {0: [content]}
    for _ in range(_DEPTH):
        inner = {}
        for node in level.values():
            for value in node.values() if isinstance(node, dict) else node:
                if isinstance(value, (dict, list, tuple)):
                    inner[id(value)] = value
                elif isinstance(value, Tensor):
                    bytes_ = value.numel() * value.element_size()
                    if bytes_ > size or value.is_meta:
                        raise ValueError(
                            f'{path} has {size:,} bytes, and in it is a '
                            f'tensor of the shape {tuple(value.shape)}'
                        )
        level = inner
        if not level:
            return
    raise ValueError(f'{path}: dicts and lists are in one another too deep')


@contextmanager
def named_faults(path: Path) -> Iterator[None]:
    """Name the file where it is no checkpoint, and how to get it.

    Args:
        path: A file of safetensors or ``torch.save``, which is read inside.

    Raises:
        ValueError: If it is a page, a text or the like, or is damaged.
    """
    try:
        with open(path, 'rb') as file:
            start = file.read(40)
        if start.startswith(b'version https://git-lfs'):
            raise ValueError(
                f'{path} is a pointer of git-lfs, not the file itself: fetch '
                'it with git lfs pull'
            )
        is_pickle = start.startswith((b'PK', b'\x80'))  # in a zip, or older
        if start and not is_pickle and Path(path).suffix != '.safetensors':
            raise ValueError(
                f'{path} is no checkpoint, for it begins with {start!r}: '
                'download it again, and see that its address is of the file '
                'and not of a page about it'
            )
        yield
    except (PermissionError, torch.OutOfMemoryError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    except _DAMAGED as error:
        reason = f'{type(error).__name__}: {error}'
        raise ValueError(_damaged(path, reason)) from error


def _damaged(path: Path, reason: str) -> str:
    cure = 'write or download it again'
    return f'{path} is damaged or cut short ({reason}): {cure}'
