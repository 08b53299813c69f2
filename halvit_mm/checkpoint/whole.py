"""Whether a checkpoint is whole, and the newest one that is."""

from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import torch

from .files import load_content
from .log import say


def not_finite(state_dict: dict) -> List[str]:
    """List the weights that hold NaN or infinity.

    Args:
        state_dict: Name -> tensor.

    Returns:
        Their names.
    """
    return [
        name
        for name, value in state_dict.items()
        if isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and not torch.isfinite(value).all()
    ]


def find_checkpoint(folder: str) -> Optional[str]:
    """Find the newest checkpoint of a folder from which a run can go on.

    Files that are damaged, hold no optimiser, or weights that are not finite
    are passed over with a line each.

    Args:
        folder: Working folder of the run, which may have been moved.

    Returns:
        Path of the file; None if there is none.
    """
    for path, fault in _candidates(Path(folder)):
        if not fault:
            return str(path)
        say(f'--resume passes over {path}: {fault}')
    return None


def _candidates(folder: Path) -> Iterator[Tuple[Path, str]]:
    """Checkpoints, the newest first, and what is wrong with each."""
    found = [p for p in folder.glob('*.pth') if not p.name.startswith('best')]
    found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in found:
        try:
            content, _ = load_content(path)
        except ValueError as error:
            yield path, str(error)
            continue
        keys = {'state_dict', 'optimizer', 'meta'}
        if not isinstance(content, dict) or not keys <= content.keys():
            yield path, 'it holds weights only, no state of a training'
        elif names := not_finite(content['state_dict']):
            yield path, f'{len(names)} weights are not finite: {names[:3]}'
        else:
            yield path, ''


def read_meta(path: str) -> dict:
    """Read what a checkpoint says of its training.

    Args:
        path: A file of mmengine's runner.

    Returns:
        ``epoch``, ``iter``, ``seed``, ``dataset_meta`` and others.

    Raises:
        ValueError: If it is damaged or holds more than data.
    """
    content, _ = load_content(Path(path))
    meta = content.get('meta') if isinstance(content, dict) else None
    return meta if isinstance(meta, dict) else {}
