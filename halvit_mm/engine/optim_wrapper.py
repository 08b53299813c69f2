"""Mixed precision in bfloat16, on any device."""

from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from ..registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Autocast to bfloat16 without loss scaling.

    bfloat16 has the range of float32, so losses need no scaling. mmengine's
    ``AmpOptimWrapper`` scales them anyway and does not support CPUs. The
    arguments are those of ``mmengine.optim.OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Enter the context of a forward pass.

        Args:
            model: The model that runs in it.

        Yields:
            Nothing.
        """
        with (
            super().optim_context(model),
            torch.autocast(
                torch.device(get_device()).type, dtype=torch.bfloat16
            ),
        ):
            yield
