"""States of a calibration, from which a run that was killed goes on."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Dict, Optional, Sequence

import torch
from torch import Tensor, nn

from ..checkpoint.files import atomic_write, load_content
from .config import FiPSConfig

#: Settings that do not change the result; of images, the batches tell.
_WITHOUT_EFFECT = ('memory_limit', 'save_interval', 'num_batches')


def digest_of(
    units: Dict[str, nn.Module], batches: Sequence[Tensor], config: FiPSConfig
) -> str:
    """Digest what settles a result, before anything is computed.

    Args:
        units: Units of the original by name; their weights count.
        batches: Images; the number of batches and the first one count.
        config: Settings; those without an effect on the result do not count.
    """
    settings = asdict(config)
    settings = {k: settings[k] for k in settings if k not in _WITHOUT_EFFECT}
    digest = hashlib.sha256(json.dumps([settings, len(batches)]).encode())
    digest.update(_bytes(batches[0]))
    for unit, module in units.items():
        for name, tensor in module.state_dict().items():
            digest.update(f'{unit}.{name} {list(tensor.shape)}'.encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().flatten()
    return memoryview(flat.view(torch.uint8).numpy())


class State:
    """The file with the last state of one pass.

    Args:
        path: The file.
        digest: Of :func:`digest_of`; a file of another one is refused.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self.digest = digest

    def load(self) -> Optional[dict]:
        """Read what was saved, or None where there is no file.

        Raises:
            ValueError: If it is of other settings, weights or images.
        """
        if not self.path.is_file():
            return None
        state, _ = load_content(self.path)
        if state['digest'] != self.digest:
            raise ValueError(
                f'{self.path} is a state of other settings, weights or '
                'images: name another folder, or remove it to start anew'
            )
        return state

    def save(self, **content) -> None:
        """Write tensors and numbers by name.

        Raises:
            OSError: If the disk is full; the state before is kept.
        """
        with atomic_write(self.path) as part:
            torch.save(dict(content, digest=self.digest), part)

    def remove(self) -> None:
        """Forget the state."""
        self.path.unlink(missing_ok=True)
