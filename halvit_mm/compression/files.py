"""Files that are written whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from safetensors import SafetensorError

__all__ = ['written_whole']


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Put a file in its place when it is complete.

    Args:
        path: Keeps what it held until then.

    Yields:
        Where to write meanwhile, beside it.

    Raises:
        OSError: If it cannot be written, for example on a full disk.
    """
    part = Path(f'{path}.part')
    try:
        yield part
        with part.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f'{path} cannot be written ({error}); what it held before is kept'
        ) from error
