"""Weights that are cast and packed once, for inference."""

from typing import Dict, Optional

import torch
from torch import Tensor, nn

__all__ = ['PreparedModule', 'prepare', 'unprepare']


class PreparedModule(nn.Module):
    """A module whose inference can use weights in another form.

    The packed copy is no part of the state dict. It is dropped as soon as it
    could be stale: by ``train()``, ``load_state_dict()`` and whatever moves
    or casts the module. A change of a parameter in place is not seen:
    optimisers leave no trace that could be (``_version`` does not change),
    so it is made in eval mode only and ``train()`` ends it.
    """

    #: Packed tensors by name; empty while the module is not prepared.
    prepared: Dict[str, Optional[Tensor]] = {}

    def pack(self, dtype: torch.dtype) -> Dict[str, Optional[Tensor]]:
        """Args: dtype: Of the copy. Returns: What ``forward`` uses."""
        raise NotImplementedError

    @property
    def prepared_weights(self) -> Dict[str, Optional[Tensor]]:
        """The packed weights; none where gradients are to be computed."""
        return {} if torch.is_grad_enabled() else self.prepared

    @property
    def prepared_dtype(self) -> Optional[torch.dtype]:
        """Dtype of :attr:`prepared_weights`, or None without any."""
        tensors = self.prepared_weights.values()
        return next((t.dtype for t in tensors if t is not None), None)

    def train(self, mode: bool = True) -> 'PreparedModule':
        """Set the mode; training drops the packed weights."""
        if mode:
            self.prepared = {}
        return super().train(mode)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self.prepared = {}
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs) -> 'PreparedModule':
        self.prepared = {}
        return super()._apply(*args, **kwargs)


@torch.no_grad()
def prepare(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> int:
    """Cast and pack the tied weights of a model in eval mode.

    Its tied layers then compute in ``dtype``, with or without autocast, from
    one product for query, key and value. Prepare it on its device, and again
    after changing its weights.

    Args:
        model: Holds :class:`PreparedModule`s.
        dtype: To compute in.

    Returns:
        Number of modules that were prepared.

    Raises:
        ValueError: If the model is in training mode, holds no tied layers,
            or if ``dtype`` is not floating-point.
    """
    if not dtype.is_floating_point:
        raise ValueError(f'{dtype} is not floating-point')
    modules = [m for m in model.modules() if isinstance(m, PreparedModule)]
    if not modules:
        raise ValueError(f'{type(model).__name__} holds no tied layers')
    if any(module.training for module in modules):
        raise ValueError('prepare() is for inference: call eval() first')
    for module in modules:
        module.prepared = module.pack(dtype)
    return len(modules)


def unprepare(model: nn.Module) -> None:
    """Drop the packed weights. Args: model: As for :func:`prepare`."""
    for module in model.modules():
        if isinstance(module, PreparedModule):
            module.prepared = {}
