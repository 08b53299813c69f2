"""Files from elsewhere: read as data, and named where they are not whole."""

import os
import re
import struct
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Iterator

from safetensors import SafetensorError

from ..compat.checkpoints import allow_mmengine_checkpoints

_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
#: What torch and safetensors raise for bytes that make no sense.
_DAMAGED = (
    ArithmeticError,
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
)


@contextmanager
def data_only(path: Path) -> Iterator[None]:
    """Let torch, and the host around it, read nothing but data.

    Args:
        path: What is read, for the error.

    Raises:
        ValueError: If it holds more, or is damaged; it names the cure.
    """
    # Any call of the host's loader withdraws what was announced, and the
    # host would go on with weights_only=False after a refusal.
    allow_mmengine_checkpoints()
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = '1'
    try:
        yield
    except UnpicklingError as error:
        reason = re.search(r'Unsupported [^.]*\S*', str(error))
        if reason and 'operand' in reason.group():
            raise ValueError(_damaged(path, reason.group())) from error
        raise ValueError(
            f'{path} is not a plain checkpoint: '
            f'{reason.group() if reason else error} If you trust it, load it '
            'with torch.load(..., weights_only=False) and save its state dict '
            'alone'
        ) from error
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


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
    except _DAMAGED as error:
        reason = f'{type(error).__name__}: {error}'
        raise ValueError(_damaged(path, reason)) from error


def _damaged(path: Path, reason: str) -> str:
    cure = 'write or download it again'
    return f'{path} is damaged or cut short ({reason}): {cure}'
