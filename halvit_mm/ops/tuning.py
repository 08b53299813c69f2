"""Timing that decides whether GELU runs inside the matrix product.

cublasLt's GELU is the tanh form, so it is a candidate for that form only, and
it is faster on some GPUs and sizes only.
"""

from typing import Dict, Tuple

import torch
from torch import Tensor

from .extension import backend, forced_impl
from .schemas import NAMESPACE

_REPEATS = 5
_SIGNED_MULTIPLE = 16  # half of a row starts at 16 bytes
_ops = getattr(torch.ops, NAMESPACE)

#: Device, dtype, tokens, hidden width, width -> implementation.
_fastest: Dict[Tuple, int] = {}


def gelu_in_product(
    x: Tensor, w: Tensor, approximate: str, signed: bool
) -> int:
    """Choose the implementation of ``tied_ffn``.

    Args:
        x: (..., D).
        w: (F, D).
        approximate: Form of GELU.
        signed: Whether the second half of the hidden units is negated.

    Returns:
        1 for GELU inside the product, 0 for a kernel of its own.
    """
    if approximate != 'tanh' or not x.is_cuda:
        return 0
    if signed and w.shape[0] % _SIGNED_MULTIPLE:
        return 0
    if torch.compiler.is_compiling() or backend() != 'cuda':
        return 0
    if x.dtype == torch.float32 or not x.numel():
        return 0
    forced = forced_impl()
    if forced is not None:
        return forced
    if torch.are_deterministic_algorithms_enabled():
        return 0  # a timing may come out either way
    # sizes of detection vary: one timing for each power of two
    tokens = x.numel() // x.shape[-1]
    bucket = 1 << (tokens - 1).bit_length()
    key = (x.device, x.dtype, bucket, *w.shape)
    if key not in _fastest:
        if torch.cuda.is_current_stream_capturing():
            return 0
        _fastest[key] = _time(*key)
    return _fastest[key]


def _time(
    device: torch.device,
    dtype: torch.dtype,
    tokens: int,
    hidden: int,
    width: int,
) -> int:
    try:
        x = torch.randn(tokens, width, device=device, dtype=dtype)
        w = torch.randn(hidden, width, device=device) / width**0.5
        b1, b2 = (torch.zeros(n, device=device) for n in w.shape)
        times = [_milliseconds(x, w, b1, b2, impl) for impl in (0, 1)]
    except torch.OutOfMemoryError:  # there is room for the step alone
        return 0
    return int(times[1] < times[0])


@torch.no_grad()
def _milliseconds(x, w, b1, b2, impl: int) -> float:
    """Time forward and backward passes, after one that is not timed."""

    def step():
        _, u, w_cast = _ops.tied_ffn(x, w, b1, b2, False, 'tanh', impl)
        _ops.tied_ffn_backward(
            x, x, u, w, w_cast, False, 'tanh', impl, [True] * 4
        )

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    step()
    start.record()
    for _ in range(_REPEATS):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
