"""Weights that are cast and packed once, for inference."""

from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import torch
from torch import Tensor, nn

from ... import ops
from ...ops import for_products
from .tied_linear import TiedLinear
from .untouched import are_untouched

#: Modules whose copy was found good in the forward pass under way, if any.
_found_good: ContextVar[Optional[Set[nn.Module]]] = ContextVar(
    '_found_good', default=None
)


@contextmanager
def _remembering() -> Iterator[None]:
    token = _found_good.set(set())
    try:
        yield
    finally:
        _found_good.reset(token)


def checked_once() -> AbstractContextManager:
    """Return the context of a forward pass, which checks each module once.

    Several layers may share a module, and a layer asks before the module
    does. Within another such context it does nothing.

    Returns:
        A context in which a :class:`PackedModule` whose copy was found good
        uses it again without looking at the weights and hooks: changes that
        the forward pass itself makes are seen by the next one.
    """
    if torch.compiler.is_compiling() or _found_good.get() is not None:
        return nullcontext()
    return _remembering()


class PackedModule(nn.Module):
    """A module whose inference can use weights in another form.

    The packed copy is part of neither the state dict nor copies of the
    module. It is dropped as soon as it could be stale: by ``train()`` and
    ``eval()``, ``load_state_dict()``, whatever moves or casts the module, and
    changes of its weights in place, borrowed ones included, as far as PyTorch
    counts them; fused optimisers and ``.data`` are not counted, but come with
    a change of the mode. It is left aside where what it bypasses has hooks or
    is replaced, and while a graph is compiled or exported: such a graph
    outlives the copy, so it reads the weights themselves.
    """

    #: Packed tensors by name; empty while nothing is packed.
    packed: Dict[str, Optional[Tensor]] = {}
    #: Data type that the packed numbers, the input and the output are rounded
    #: to; the tensors lie in the one that products with them run in.
    rounded_to: Optional[torch.dtype] = None
    _sources: Tuple[Any, ...] = ()

    def bypassed(self) -> List[Tuple[nn.Module, type]]:
        """Return the modules that packed weights stand for.

        Returns:
            Each module and its class, as for :func:`.are_untouched`. The
            weights of :class:`.TiedLinear`s are packed.
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
        self.packed = {
            name: t if t is None else for_products(t)
            for name, t in self.pack(dtype).items()
        }
        self.rounded_to = dtype
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
        linears = [m for m, cls in self.bypassed() if cls is TiedLinear]
        found = [(m.weight, m.bias, m.transposed.bias) for m in linears]
        return tuple(
            x
            for t in sum(found, ())
            if t is not None
            for x in (t, t.data_ptr(), 0 if t.is_inference() else t._version)
        )

    @property
    def packed_weights(self) -> Dict[str, Optional[Tensor]]:
        """The packed weights, or none where they are not to be used."""
        if (
            not self.packed
            or torch.is_grad_enabled()
            or torch.compiler.is_compiling()
        ):
            return {}
        found_good = _found_good.get()
        if found_good is not None and self in found_good:
            return self.packed
        if not are_untouched(*self.bypassed()):
            return {}
        sources = self._read_sources()
        if len(sources) != len(self._sources) or not all(
            a is b or (isinstance(a, int) and a == b)
            for a, b in zip(sources, self._sources)
        ):
            self.unpack_weights()
        elif found_good is not None:
            found_good.add(self)
        return self.packed

    @property
    def packed_dtype(self) -> Optional[torch.dtype]:
        """That of :attr:`packed_weights`' numbers, or None without any."""
        return self.rounded_to if self.packed_weights else None

    def train(self, mode: bool = True) -> 'PackedModule':
        """Set the mode; this drops the packed weights.

        Averages of weights are put into a model by ``.data``, which PyTorch
        does not count, and ``eval()`` follows.
        """
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
    model runs, and again after changing its weights or calling ``eval()``.
    What several layers share is packed once. Compiled and exported graphs
    compute from the weights themselves, as without packing.

    Args:
        model: Holds :class:`PackedModule`s.
        dtype: Data type to compute in.

    Returns:
        Number of modules that were packed.

    Raises:
        ValueError: If the model is in training mode or holds no tied layers,
            if what they would bypass is hooked, replaced or parametrized,
            naming it, or if ``dtype`` is not floating-point.
    """
    if not dtype.is_floating_point:
        raise ValueError(f'{dtype} is not floating-point')
    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, PackedModule)
    }
    if not modules:
        raise ValueError(f'{type(model).__name__} holds no tied layers')
    if any(module.training for module in modules.values()):
        raise ValueError('pack_weights() is for inference: call eval() first')
    for name, module in modules.items():
        bypassed = module.bypassed()
        if not are_untouched(*bypassed):
            raise ValueError(
                f'{name} has parts that are replaced or have hooks, which '
                'packed weights would bypass: remove or merge them first'
            )
        linears = [m for m, cls in bypassed if cls is TiedLinear]
        if any(m.weight is not m.weight for m in linears):
            raise ValueError(
                f'{name} has a parametrized weight that is computed anew at '
                'every call: call remove_parametrizations() first'
            )
    for module in modules.values():
        module.pack_weights(dtype)
    return len(modules)


def unpack_weights(model: nn.Module) -> None:
    """Drop the packed weights of a model.

    Args:
        model: As for :func:`pack_weights`.
    """
    for module in model.modules():
        if isinstance(module, PackedModule):
            module.unpack_weights()
