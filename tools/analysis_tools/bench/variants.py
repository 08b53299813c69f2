"""Ways to compute a case, to be compared."""

from contextlib import nullcontext
from functools import partial
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from halvit_mm import ops
from halvit_mm.engine import GraphedForward
from halvit_mm.models.layers import pack_weights

from .cases import Case
from .hoisted import HoistedEncoderLayer
from .steps import Step

_TIED = ('layer', 'backbone', 'detector')
_FIPS = ('fips',)


class Variant(NamedTuple):
    """One way to compute a case.

    Attributes:
        what: A description of a few words.
        tied: Whether the layers are tied.
        context: Makes the context that it runs in.
        change: Called with the case and its module; returns the module that
            is run.
        levels: The levels that have it.
        is_compiled: Whether it uses ``torch.compile``.
        by_default: Whether it runs unless others are chosen.
        inference_only: Whether it has no gradients.
        cuda_only: Whether it needs a GPU.
        build: Further arguments for :meth:`Case.build`.
    """

    what: str
    tied: bool = True
    context: Callable = partial(ops.use, 'plain')
    change: Optional[Callable] = None
    levels: Sequence[str] = _TIED
    is_compiled: bool = False
    by_default: bool = True
    inference_only: bool = False
    cuda_only: bool = False
    build: Dict = {}


def choose_variants(
    level: str, names: Optional[Sequence[str]] = None
) -> List[str]:
    """Check which variants are asked for.

    Args:
        level: One of :data:`bench.LEVELS`.
        names: Names of variants; None for those that run by default.

    Returns:
        The names, each once.

    Raises:
        ValueError: If a variant is unknown or the level does not have it.
    """
    known = {name: v for name, v in VARIANTS.items() if level in v.levels}
    if names is None:
        return [name for name, v in known.items() if v.by_default]
    for name in names:
        if name not in known:
            raise ValueError(
                f'variant {name!r} does not exist for a {level}: choose from '
                f'{list(known)}'
            )
    return list(dict.fromkeys(names))


def why_not(name: str, case: Case) -> str:
    """Say why a variant cannot run a case; the reason is empty if it can."""
    variant = VARIANTS[name]
    if variant.inference_only and case.mode == 'train':
        return 'for inference only'
    if variant.cuda_only and case.device_type != 'cuda':
        return 'needs a GPU'
    return ''


def make_step(
    name: str, case: Case, compile_backend: str = 'inductor'
) -> Step:
    """Build a variant; all tied ones have the same weights.

    Args:
        name: Name of the variant.
        case: The case to compute.
        compile_backend: The backend of ``torch.compile``.

    Returns:
        A step of the case.
    """
    variant = VARIANTS[name]
    torch.manual_seed(0)
    module = case.build(variant.tied, **variant.build)
    if variant.is_compiled:
        mode = 'max-autotune' if name == 'compile-max' else None
        encoder = module.get_submodule(case.encoder)
        encoder.compile(backend=compile_backend, mode=mode)
    if variant.change:
        module = variant.change(case, module)
    return Step(case, module, variant.context)


class _Graphed(nn.Module):
    """A module that is run as CUDA graphs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.graphed = GraphedForward(module)

    def forward(self, *inputs: Tensor):
        return self.graphed(*inputs)


def _pack(case: Case, module: nn.Module) -> nn.Module:
    pack_weights(module, case.torch_dtype)
    return module


def _graph(case: Case, module: nn.Module) -> nn.Module:
    graphed = _Graphed(module.get_submodule(case.encoder)).eval()
    _pack(case, graphed)
    if not case.encoder:
        return graphed
    setattr(module, case.encoder, graphed)
    return module


VARIANTS = {
    'untied': Variant('six matrices a layer', tied=False, context=nullcontext),
    'naive': Variant('F.linear with W and W.t(), casts left to autocast'),
    'hoisted': Variant(
        'as naive, but each tensor is cast once',
        levels=('layer',),
        build=dict(layer_cls=HoistedEncoderLayer),
    ),
    'compile': Variant('torch.compile of naive', is_compiled=True),
    'compile-max': Variant(
        'torch.compile of naive, max-autotune',
        is_compiled=True,
        by_default=False,
    ),
    'compile+ops': Variant(
        'torch.compile around the operators',
        context=partial(ops.use, in_compile=True),
        is_compiled=True,
    ),
    'ours': Variant('the operators', context=ops.use),
    'prepared': Variant(
        'the operators, weights cast and packed before',
        context=ops.use,
        change=_pack,
        inference_only=True,
    ),
    'graph': Variant(
        'packed weights, as a CUDA graph',
        context=ops.use,
        change=_graph,
        inference_only=True,
        cuda_only=True,
    ),
    'dense': Variant(
        'the original', context=nullcontext, levels=_FIPS, tied=False
    ),
    'factorized': Variant(
        'products of base and factor in every step, as in training; in '
        'inference they are kept',
        context=nullcontext,
        change=lambda case, module: case.compress(module),
        levels=_FIPS,
    ),
    **{
        execution: Variant(
            what,
            context=nullcontext,
            change=lambda case, module, e=execution: case.compress(module, e),
            levels=_FIPS,
            inference_only=True,
        )
        for execution, what in (
            ('materialize', 'products multiplied once and for all'),
            ('low_rank', 'through the rank, (x U) V'),
        )
    },
}
