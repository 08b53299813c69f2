"""Weights that are cast and packed once, for inference."""

from typing import Dict, Optional, Tuple

import torch
from torch import Tensor, nn

from ... import ops
from .sharing import borrows

__all__ = ['PreparedModule', 'prepare', 'unprepare']


class PreparedModule(nn.Module):
    """A module whose inference can use weights in another form.

    The packed copy is part of neither the state dict nor copies of the
    module. It is dropped as soon as it could be stale: by ``train()``,
    ``load_state_dict()``, whatever moves or casts the module, and changes of
    its parameters in place, as far as PyTorch counts them; fused optimisers
    and ``.data`` are not counted, but belong to training.
    """

    #: Packed tensors by name; empty while the module is not prepared.
    prepared: Dict[str, Optional[Tensor]] = {}
    _versions: Tuple[int, ...] = ()

    def pack(self, dtype: torch.dtype) -> Dict[str, Optional[Tensor]]:
        """Args: dtype: Of the copy. Returns: What ``forward`` uses."""
        raise NotImplementedError

    def prepare(self, dtype: torch.dtype) -> None:
        """Args: dtype: Of the copy that is made and kept."""
        self.prepared = self.pack(dtype)
        self._versions = self._count()
        ops.note_new_weights()

    def unprepare(self) -> None:
        """Drop the packed weights."""
        if self.prepared:
            self.prepared = {}
            ops.note_new_weights()

    def _count(self) -> Tuple[int, ...]:
        return tuple(
            x
            for p in self.parameters()
            for x in (p.data_ptr(), 0 if p.is_inference() else p._version)
        )

    @property
    def prepared_weights(self) -> Dict[str, Optional[Tensor]]:
        """The packed weights; none where gradients are to be computed."""
        if not self.prepared or torch.is_grad_enabled():
            return {}
        if not torch.compiler.is_compiling():  # versions are not traced
            if self._versions != self._count():
                self.unprepare()
        return self.prepared

    @property
    def prepared_dtype(self) -> Optional[torch.dtype]:
        """Dtype of :attr:`prepared_weights`, or None without any."""
        tensors = self.prepared_weights.values()
        return next((t.dtype for t in tensors if t is not None), None)

    def train(self, mode: bool = True) -> 'PreparedModule':
        """Set the mode; training drops the packed weights."""
        if mode:
            self.unprepare()
        return super().train(mode)

    def __getstate__(self) -> dict:
        """Copies and pickles, for example of an EMA, start unprepared."""
        return {**self.__dict__, 'prepared': {}}

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self.unprepare()
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs) -> 'PreparedModule':
        self.unprepare()
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
        ValueError: If the model is in training mode, holds no tied layers
            or such that share weights with each other, or if ``dtype`` is
            not floating-point.
    """
    if not dtype.is_floating_point:
        raise ValueError(f'{dtype} is not floating-point')
    modules = [m for m in model.modules() if isinstance(m, PreparedModule)]
    if not modules:
        raise ValueError(f'{type(model).__name__} holds no tied layers')
    if any(borrows(module) for module in modules):
        raise ValueError(
            f'{type(model).__name__} shares weights between layers, which '
            'prepare() does not know'
        )
    if any(module.training for module in modules):
        raise ValueError('prepare() is for inference: call eval() first')
    for module in modules:
        module.prepare(dtype)
    return len(modules)


def unprepare(model: nn.Module) -> None:
    """Drop the packed weights. Args: model: As for :func:`prepare`."""
    for module in model.modules():
        if isinstance(module, PreparedModule):
            module.unprepare()
