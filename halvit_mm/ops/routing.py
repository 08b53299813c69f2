"""The choice between an operator and its definition in plain PyTorch."""

import logging
from functools import cache
from typing import Tuple

import torch
from torch import Tensor

from .extension import backend, in_compile, is_broken, is_plain

_CUDA_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_CUDA_MULTIPLE = 8  # elements: the kernels load 16 bytes at a time
_CUDA_WIDEST = 8192  # elements of a row that the norm keeps in registers


@cache
def _log_once(reason: str) -> None:
    logging.getLogger('halvit_mm').warning(
        'The CUDA operators are not used: %s.', reason
    )


# A tracer cannot look into it; it loads the library where that is due.
@torch.compiler.assume_constant_result
def _passes_by(dtype: torch.dtype, widths: Tuple[int, ...]) -> bool:
    """Return whether the CUDA kernels do not support this input."""
    if backend() != 'cuda':
        return is_broken()
    odd = [width for width in widths if width % _CUDA_MULTIPLE]
    reason = ''
    if dtype not in _CUDA_DTYPES:
        reason = str(dtype)
    elif odd:
        reason = f'the widths {odd} are no multiples of {_CUDA_MULTIPLE}'
    elif widths[0] > _CUDA_WIDEST:
        reason = f'the width {widths[0]} is beyond {_CUDA_WIDEST}'
    if reason:
        _log_once(reason)
    return bool(reason)


def uses_definition(x: Tensor, *widths: int) -> bool:
    """Return whether an operator is computed by its definition.

    Args:
        x: Input of the operator.
        widths: Sizes of its matrices, the size of a row first.

    Returns:
        True during export and tracing, inside ``torch.compile`` unless
        :func:`.in_compile`, if the user chose ``plain``, and where the CUDA
        kernels do not support the input.
    """
    if is_plain():
        return True
    # is_exporting() is True in torch.compile, too
    if torch.compiler.is_dynamo_compiling():
        if not in_compile():
            return True
    elif torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return x.is_cuda and _passes_by(x.dtype, widths)
