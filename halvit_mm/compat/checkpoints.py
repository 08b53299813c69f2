"""Loading of mmengine checkpoints under torch >= 2.6.

``torch.load`` admits only known classes there. A checkpoint of mmengine holds
its logging history; mmengine 0.10.7 does not announce those classes, so that
resuming fails with ``Unsupported global``. Later versions announce them for
the time of a call and withdraw them afterwards, ours as well: every read of
our own announces them again.
"""

from argparse import Namespace
from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch


def _history_method(owner: type, name: str):
    """What ``getattr`` may do in a checkpoint: name a buffer's statistic."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(f'a checkpoint asks for {owner!r}.{name}')
    return getattr(owner, name)


@contextmanager
def only_mmengine_checkpoints() -> Iterator[None]:
    """Let torch read what a checkpoint of mmengine holds, and nothing more.

    What others have announced, such as the host's ``getattr``, is announced
    again afterwards.
    """
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    allow_mmengine_checkpoints()
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def allow_mmengine_checkpoints() -> None:
    """Announce to torch the classes that a checkpoint of mmengine holds.

    The buffer of the logging history names its statistics by ``getattr``, for
    which a function stands in that can reach nothing else. A Namespace, the
    arguments of a command line, is what timm, DeiT and MAE add.
    """
    from mmengine.logging.history_buffer import HistoryBuffer

    core = getattr(np, '_core', None) or np.core
    parts = [
        (getattr(core.multiarray, name), f'numpy.{core_}.multiarray.{name}')
        for name in ('_reconstruct', 'scalar')
        for core_ in ('core', '_core')  # of numpy 1, of numpy 2
    ]
    numbers = np.typecodes['AllInteger'] + np.typecodes['Float'] + '?'
    torch.serialization.add_safe_globals(
        [
            Namespace,
            HistoryBuffer,
            (_history_method, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *parts,
            *{type(np.dtype(number)) for number in numbers},
        ]
    )
