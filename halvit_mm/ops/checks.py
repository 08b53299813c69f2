"""Checks of what the operators are given: an error, never a wrong result."""

from contextlib import AbstractContextManager, nullcontext
from typing import Dict, Optional, Tuple

import torch
from torch import Tensor

__all__ = [
    'check_gelu',
    'check_input',
    'check_parameters',
    'compute_dtype',
    'is_autocast',
    'without_autocast',
]

_GELUS = ('none', 'tanh')


@torch.compiler.assume_constant_result  # it cannot be traced
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of ``x``, where it exists."""
    device_type = x.device.type
    return _has_autocast(device_type) and torch.is_autocast_enabled(
        device_type
    )


def compute_dtype(x: Tensor) -> torch.dtype:
    """Autocast's dtype where it is on, else the dtype of ``x``."""
    if x.dtype != torch.float64 and is_autocast(x):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def without_autocast(x: Tensor) -> AbstractContextManager:
    """A context in which nothing is cast behind one's back."""
    if _has_autocast(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def check_input(op: str, name: str, x: Tensor, width: int) -> None:
    """Check the tensor that an operator is applied to.

    Raises:
        ValueError: If it is not floating-point, or not (..., width) with at
            least one leading dimension.
    """
    if not x.is_floating_point():
        raise ValueError(f'{op}: {name} is {x.dtype}, not floating-point')
    if x.dim() < 2 or x.shape[-1] != width:
        raise ValueError(
            f'{op}: {name} has the shape {tuple(x.shape)}, expected '
            f'(..., {width})'
        )


def check_parameters(
    op: str,
    x: Tensor,
    expected: Dict[str, Tuple[Optional[Tensor], Tuple[int, ...]]],
    may_cast: bool = False,
) -> None:
    """Check the weights that an operator is given.

    Args:
        op: Its name.
        x: What it is applied to.
        expected: Name of a parameter -> itself, or None, and its shape.
        may_cast: Whether its dtype may differ from that of ``x`` without
            autocast.

    Raises:
        ValueError: If one has another shape, device or dtype than expected.
    """
    dtype = next(iter(expected.values()))[0].dtype
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f'{op}: {name} has the shape {tuple(tensor.shape)}, '
                f'expected {shape}'
            )
        if tensor.device != x.device:
            raise ValueError(
                f'{op}: {name} is on {tensor.device}, the input on {x.device}'
            )
        if tensor.dtype != dtype or not tensor.is_floating_point():
            raise ValueError(
                f'{op}: {name} is {tensor.dtype}, the first weight {dtype}'
            )
    if dtype != x.dtype and not (may_cast or is_autocast(x)):
        raise ValueError(
            f'{op}: the input is {x.dtype} and the weights are {dtype}: '
            'cast one of them, or use torch.autocast'
        )


def check_gelu(approximate: str, signed: bool, hidden: int) -> None:
    """Check the options of the hidden units.

    Raises:
        ValueError: For an unknown GELU, or an odd number of hidden units
            to be signed.
    """
    if approximate not in _GELUS:
        raise ValueError(
            f'approximate={approximate!r}: choose one of {list(_GELUS)}'
        )
    if signed and hidden % 2:
        raise ValueError(f'{hidden} hidden units have no second half to sign')
