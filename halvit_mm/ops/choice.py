"""The choice of what computes an operator.

``HALVIT_MM_OPS`` chooses: ``auto`` (on a GPU the compiled library where it
fits, else plain formulas; on a CPU the fallback), ``cuda`` (the library or an
error), ``fallback`` (the operators by PyTorch's kernels, never the library) or
``plain`` (no operators at all: their definitions).
``HALVIT_MM_OPS_IN_COMPILE=1`` keeps the operators inside ``torch.compile``,
which otherwise sees the definitions and fuses them itself.
"""

import logging
import os
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Iterator, Optional, Tuple, Union

import torch
from torch import Tensor

from . import build

CHOICES = ('auto', 'cuda', 'fallback', 'plain')
_CUDA_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_CUDA_MULTIPLE = 8  # elements: the kernels load 16 bytes at a time
_CUDA_WIDEST = 8192  # elements of a row that the norm keeps in registers


def _from_environment() -> str:
    choice = os.environ.get('HALVIT_MM_OPS', 'auto')
    if choice not in CHOICES:
        raise ValueError(
            f'HALVIT_MM_OPS={choice!r}: choose one of {list(CHOICES)}'
        )
    return choice


# Module-level names: torch.compile guards on these, and compiles again when
# `use` changes them.
_choice = _from_environment()
_in_compile = os.environ.get('HALVIT_MM_OPS_IN_COMPILE', '0') == '1'


@lru_cache(maxsize=1)
def _library_problem() -> str:
    """Load the library, once, or return why it is not used."""
    path = build.library_path()
    problem = build.why_not(path)
    if not problem:
        try:
            build.load(path)
        except (OSError, RuntimeError) as error:
            problem = f'{path.name} does not work: '
            problem += str(error).splitlines()[0]
    if problem and torch.cuda.is_available():
        logging.getLogger('halvit_mm').warning(
            'The operators run as plain formulas on the GPU: %s.', problem
        )
    return problem


def backend(device: Union[torch.device, str, None] = None) -> str:
    """Return what computes the operators on a device.

    Args:
        device: A device; by default the GPU where PyTorch sees one, else the
            CPU.

    Returns:
        ``'cuda'`` (the library), ``'fallback'`` (the operators, by PyTorch's
        kernels) or ``'plain'`` (their definitions).

    Raises:
        RuntimeError: If ``HALVIT_MM_OPS=cuda`` and the library cannot be
            used.
    """
    if _choice in ('fallback', 'plain'):
        return _choice
    if _choice == 'cuda' and (problem := _library_problem()):
        raise RuntimeError(f'HALVIT_MM_OPS=cuda, but {problem}')
    if _device_type(device) != 'cuda':
        return 'fallback'
    return 'plain' if _library_problem() else 'cuda'


def backend_reason(device: Union[torch.device, str, None] = None) -> str:
    """Return the reason for the answer of :func:`backend`, as a clause."""
    if _choice in ('fallback', 'plain'):
        return f'HALVIT_MM_OPS={_choice}'
    problem = _library_problem()
    if _device_type(device) == 'cuda' or not torch.cuda.is_available():
        return problem or f'{build.library_path().name} fits'
    return 'the library is for GPUs'


def _device_type(device: Union[torch.device, str, None]) -> str:
    if device is not None:
        return torch.device(device).type
    return 'cuda' if torch.cuda.is_available() else 'cpu'


@contextmanager
def use(
    choice: Optional[str] = None, in_compile: Optional[bool] = None
) -> Iterator[None]:
    """Choose the implementation within a context.

    ``'fallback'`` does not unload a library that is already loaded: on a GPU
    its kernels go on serving the operators.

    Args:
        choice: Value of ``HALVIT_MM_OPS``, or None for no change.
        in_compile: Whether ``torch.compile`` sees the operators.

    Raises:
        ValueError: For an unknown choice.
    """
    if choice is not None and choice not in CHOICES:
        raise ValueError(f'{choice!r}: choose one of {list(CHOICES)}')
    global _choice, _in_compile
    before = _choice, _in_compile
    _choice = choice or _choice
    _in_compile = _in_compile if in_compile is None else in_compile
    try:
        yield
    finally:
        _choice, _in_compile = before


def uses_definition(x: Tensor, *widths: int) -> bool:
    """Return whether an operator is computed by its definition.

    Args:
        x: Input of the operator.
        widths: Sizes of its matrices, the size of a row first.

    Returns:
        True during export and tracing, inside ``torch.compile`` unless the
        operators are kept there, if the user chose ``plain``, and on a GPU
        without the library or where its kernels do not support the input.
    """
    if _choice == 'plain':
        return True
    # is_exporting() is True in torch.compile, too
    if torch.compiler.is_dynamo_compiling():
        if not _in_compile:
            return True
    elif torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return x.is_cuda and _passes_by(x.dtype, widths)


# A tracer cannot look into it; it loads the library where that is due.
@torch.compiler.assume_constant_result
def _passes_by(dtype: torch.dtype, widths: Tuple[int, ...]) -> bool:
    """Return whether no operator serves this input on a GPU."""
    chosen = backend('cuda')
    if chosen == 'fallback':
        # kernels that were loaded and do not run would be called all the same
        return build.is_loaded() and bool(_library_problem())
    if chosen == 'plain':
        return True
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


@cache
def _log_once(reason: str) -> None:
    logging.getLogger('halvit_mm').warning(
        'The CUDA operators are not used: %s.', reason
    )
