"""Loading of mmengine checkpoints under torch >= 2.6.

``torch.load`` admits only known classes there. A checkpoint of mmengine holds
its logging history; mmengine 0.10.7 does not announce those classes, so that
resuming fails with ``Unsupported global``.
"""

import numpy as np
import torch

__all__ = ['allow_mmengine_checkpoints']


def allow_mmengine_checkpoints() -> None:
    """Announce to torch the classes that a checkpoint of mmengine holds.

    They are data containers: the history buffer and numpy's arrays, scalars
    and number types. Nothing that could call a function is on the list.
    """
    from mmengine.logging.history_buffer import HistoryBuffer

    core = getattr(np, '_core', None) or np.core
    numbers = (np.float32, np.float64, np.int32, np.int64, np.bool_)
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            core.multiarray._reconstruct,
            core.multiarray.scalar,
            *{type(np.dtype(number)) for number in numbers},
        ]
    )
