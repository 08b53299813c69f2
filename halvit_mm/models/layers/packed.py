"""Weights that are cast and packed once, for inference."""

from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from ... import ops
from .sharing import are_untouched
from .tied_linear import TiedLinear

__all__ = ['PackedModule', 'pack_weights', 'unpack_weights']


class PackedModule(nn.Module):
    """A module whose inference can use weights in another form.

    The packed copy is part of neither the state dict nor copies of the
    module. It is dropped as soon as it could be stale: by ``train()``,
    ``load_state_dict()``, whatever moves or casts the module, hooks on its
    linear layers, and changes of its weights in place, borrowed ones
    included, as far as PyTorch counts them; fused optimisers and ``.data``
    are not counted, but belong to training.
    """

    #: Packed tensors by name; empty while nothing is packed.
    packed: Dict[str, Optional[Tensor]] = {}
    _sources: Tuple[Any, ...] = ()

    def tied_linears(self) -> List[nn.Module]:
        """Return the layers whose weights are packed.

        Returns:
            :class:`.TiedLinear`s, or what has replaced them.
        """
        raise NotImplementedError

    def pack(self, dtype: torch.dtype) -> Dict[str, Optional[Tensor]]:
        """Cast and pack the weights.

        Args:
            dtype: Data type of the copy.

        Returns:
            What ``forward`` uses, by name.
        """
        raise NotImplementedError

    def pack_weights(self, dtype: torch.dtype) -> None:
        """Keep a packed copy of the weights.

        Args:
            dtype: Data type of the copy.
        """
        self.packed = self.pack(dtype)
        self._sources = self._read_sources()
        ops.invalidate_graphs()

    def unpack_weights(self) -> None:
        """Drop the packed copy."""
        if self.packed:
            self.packed, self._sources = {}, ()
            ops.invalidate_graphs()

    def _read_sources(self) -> Tuple[Any, ...]:
        """Read the weights, where they lie, and their version counters.

        The tensors themselves are kept: an address that is freed could be
        taken by the next tensor.
        """
        linears = self.tied_linears()
        found = [(m.weight, m.bias, m.transposed.bias) for m in linears]
        return tuple(
            x
            for t in sum(found, ())
            if t is not None
            for x in (t, t.data_ptr(), 0 if t.is_inference() else t._version)
        )

    @property
    def packed_weights(self) -> Dict[str, Optional[Tensor]]:
        """The packed weights; none where gradients are to be computed."""
        if not self.packed or torch.is_grad_enabled():
            return {}
        if torch.compiler.is_compiling():  # versions are not traced
            return self.packed
        fresh = are_untouched(TiedLinear.forward, *self.tied_linears())
        if fresh:
            sources = self._read_sources()
            fresh = len(sources) == len(self._sources) and all(
                a is b or (isinstance(a, int) and a == b)
                for a, b in zip(sources, self._sources)
            )
        if not fresh:
            self.unpack_weights()
        return self.packed

    @property
    def packed_dtype(self) -> Optional[torch.dtype]:
        """The data type of :attr:`packed_weights`, or None without any."""
        tensors = self.packed_weights.values()
        return next((t.dtype for t in tensors if t is not None), None)

    def train(self, mode: bool = True) -> 'PackedModule':
        """Set the mode; training drops the packed weights."""
        if mode:
            self.unpack_weights()
        return super().train(mode)

    def __getstate__(self) -> dict:
        """Copies and pickles, for example of an EMA, start unpacked."""
        return {**self.__dict__, 'packed': {}, '_sources': ()}

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self.unpack_weights()
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs) -> 'PackedModule':
        self.unpack_weights()
        return super()._apply(*args, **kwargs)


@torch.no_grad()
def pack_weights(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> int:
    """Cast and pack the tied weights of a model in eval mode.

    Its tied layers then compute in ``dtype``, with or without autocast, from
    one product for query, key and value. Pack them on the device where the
    model runs, and again after changing its weights. What several layers
    share is packed once.

    Args:
        model: Holds :class:`PackedModule`s.
        dtype: Data type to compute in.

    Returns:
        Number of modules that were packed.

    Raises:
        ValueError: If the model is in training mode or holds no tied layers,
            if one of them is hooked, replaced or parametrized, naming it, or
            if ``dtype`` is not floating-point.
    """
    if not dtype.is_floating_point:
        raise ValueError(f'{dtype} is not floating-point')
    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, PackedModule) and _is_complete(module)
    }
    if not modules:
        raise ValueError(f'{type(model).__name__} holds no tied layers')
    if any(module.training for module in modules.values()):
        raise ValueError('pack_weights() is for inference: call eval() first')
    for name, module in modules.items():
        linears = module.tied_linears()
        if not are_untouched(TiedLinear.forward, *linears):
            raise ValueError(
                f'{name} has linear layers with hooks or replaced ones, which '
                'packed weights would bypass: remove or merge them first'
            )
        if any(m.weight is not m.weight for m in linears):
            raise ValueError(
                f'{name} has a parametrized weight that is computed anew at '
                'every call: call remove_parametrizations() first'
            )
    for module in modules.values():
        module.pack_weights(dtype)
    return len(modules)


def _is_complete(module: PackedModule) -> bool:
    """Tell whether a module can be called: owners of shared parts cannot."""
    first = module.tied_linears()[0]
    if not isinstance(first, TiedLinear):
        return True  # replaced, which is told below
    return first.weight is not None and first.transposed_bias is not None


def unpack_weights(model: nn.Module) -> None:
    """Drop the packed weights of a model.

    Args:
        model: As for :func:`pack_weights`.
    """
    for module in model.modules():
        if isinstance(module, PackedModule):
            module.unpack_weights()
