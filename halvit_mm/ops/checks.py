"""Checks of the operators' arguments; a mismatch raises an error."""

from contextlib import AbstractContextManager, nullcontext
from typing import Optional, Sequence, Tuple

import torch
from torch import Tensor

_GELUS = ('none', 'tanh')


@torch.compiler.assume_constant_result  # it cannot be traced
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def is_autocast(x: Tensor) -> bool:
    """Return whether autocast is enabled for the device of ``x``."""
    device_type = x.device.type
    known = device_type in ('cuda', 'cpu')  # to ask takes a microsecond
    return (known or _has_autocast(device_type)) and (
        torch.is_autocast_enabled(device_type)
    )


def compute_dtype(x: Tensor) -> torch.dtype:
    """Choose the dtype in which an operator computes.

    Args:
        x: Input of the operator.

    Returns:
        Autocast's dtype where it is enabled, unless ``x`` is float64; else
        the dtype of ``x``.
    """
    if x.dtype != torch.float64 and is_autocast(x):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Return a context that switches autocast off for the device of ``x``."""
    if _has_autocast(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def check_input(op: str, name: str, x: Tensor, width: int) -> None:
    """Check the input of an operator.

    Args:
        op: Name of the operator.
        name: Name of the argument.
        x: The input.
        width: Expected size of its last dimension.

    Raises:
        ValueError: If ``x`` is not floating-point, or not (..., width) with
            at least one leading dimension.
    """
    if not x.dtype.is_floating_point:
        raise ValueError(f'{op}: {name} is {x.dtype}, not floating-point')
    if x.dim() < 2 or x.shape[-1] != width:
        raise ValueError(
            f'{op}: {name} has the shape {tuple(x.shape)}, expected '
            f'(..., {width})'
        )


def check_parameters(
    op: str,
    x: Tensor,
    expected: Sequence[Tuple[str, Optional[Tensor], Tuple[int, ...]]],
    may_cast: bool = False,
) -> None:
    """Check the parameters of an operator.

    Args:
        op: Name of the operator.
        x: Its input.
        expected: For each parameter its name, the tensor, or None, and the
            shape that it should have. The first is not None.
        may_cast: Whether the parameters may have another dtype than ``x``
            without autocast.

    Raises:
        ValueError: If a parameter has another shape, device or dtype than
            expected.
    """
    dtype, device = expected[0][1].dtype, x.device
    for name, tensor, shape in expected:
        if tensor is None or (
            tensor.shape == shape
            and tensor.dtype is dtype
            and tensor.device == device
        ):
            continue
        if tensor.shape != shape:
            raise ValueError(
                f'{op}: {name} has the shape {tuple(tensor.shape)}, '
                f'expected {shape}'
            )
        if tensor.device != device:
            raise ValueError(
                f'{op}: {name} is on {tensor.device}, the input on {device}'
            )
        raise ValueError(
            f'{op}: {name} is {tensor.dtype}, the first weight {dtype}'
        )
    if not dtype.is_floating_point:
        raise ValueError(f'{op}: {expected[0][0]} is {dtype}')
    if dtype is not x.dtype and not (may_cast or is_autocast(x)):
        raise ValueError(
            f'{op}: the input is {x.dtype} and the weights are {dtype}: '
            'cast one of them, or use torch.autocast'
        )


def check_gelu(approximate: str, signed: bool, hidden: int) -> None:
    """Check the options of the FFN.

    Args:
        approximate: Form of GELU.
        signed: Whether the second half of the hidden units is negated.
        hidden: Number of hidden units.

    Raises:
        ValueError: If the form of GELU is unknown, or if an odd number of
            hidden units is to be signed.
    """
    if approximate not in _GELUS:
        raise ValueError(
            f'approximate={approximate!r}: choose one of {list(_GELUS)}'
        )
    if signed and hidden % 2:
        raise ValueError(f'{hidden} hidden units have no second half to sign')
