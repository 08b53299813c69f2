"""FLOPs of the operators, for two counters that do not know them.

``torch.utils.flop_counter.FlopCounterMode`` counts two operations per
multiply-add; its formulas are registered on import. ``mmengine.analysis``
counts one; it is given :func:`jit_handles`:

.. code-block:: python

    analyzer = FlopAnalyzer(model, image)
    analyzer.set_op_handle(**jit_handles())

Shapes: T tokens in all, D width, F hidden width.
"""

from math import prod
from typing import Any, Callable, Dict, Sequence

import torch
from torch.utils.flop_counter import register_flop_formula

from .schemas import NAMESPACE

Shape = Sequence[int]
_ops = getattr(torch.ops, NAMESPACE)


def _square(x: Shape) -> int:
    """Return the multiply-adds of (T, D) by (D, D)."""
    return prod(x) * x[-1]


def _tied_qkv(x: Shape, *_, **__) -> int:
    return 3 * _square(x)


def _tied_qkv_backward(
    dq, dk, dv, x: Shape, wq, wkv, packed, needs, *_, **__
) -> int:
    weights = [(dq, needs[1]), (dk, needs[2]), (dv, needs[2])]
    products = sum(d is not None and need for d, need in weights)
    if needs[0]:
        products += sum(d is not None for d in (dq, dk, dv))
    return products * _square(x)


def _tied_out(o: Shape, *_, **__) -> int:
    return _square(o)


def _tied_out_backward(g, o: Shape, wq, packed, needs, **__) -> int:
    return (bool(needs[0]) + bool(needs[1])) * _square(o)


def _tied_ffn(x: Shape, w: Shape, *_, **__) -> int:
    return 2 * prod(x) * w[0]


def _tied_ffn_backward(
    g, x: Shape, u, w: Shape, w_cast, signed, gelu, impl, needs, **__
) -> int:
    dh = bool(needs[0] or needs[1] or needs[2])
    products = dh + bool(needs[0]) + 2 * bool(needs[1])
    return products * prod(x) * w[0]


_MACS: Dict[str, Callable[..., int]] = {
    'tied_qkv': _tied_qkv,
    'tied_qkv_backward': _tied_qkv_backward,
    'tied_out': _tied_out,
    'tied_out_backward': _tied_out_backward,
    'tied_ffn': _tied_ffn,
    'tied_ffn_backward': _tied_ffn_backward,
    'tied_ffn_inference': _tied_ffn,
}


def register() -> None:
    """Register the formulas with ``FlopCounterMode``, once a process."""

    def doubled(macs):
        return lambda *args, **kwargs: 2 * macs(*args, **kwargs)

    for name, macs in _MACS.items():
        register_flop_formula(getattr(_ops, name))(doubled(macs))


def _shape(value: Any) -> Shape:
    return value.type().sizes()


def _attention(inputs, outputs) -> int:
    # q k^T and its product with v: (..., T, d) by (..., S, d), twice
    query, key = _shape(inputs[0]), _shape(inputs[1])
    return 2 * prod(query) * key[-2]


def jit_handles() -> Dict[str, Callable[[list, list], int]]:
    """Return handles for mmengine's ``FlopAnalyzer.set_op_handle``.

    Returns:
        Operator's name -> function of the values of a traced graph that
        returns multiply-adds. PyTorch's attention is included, because
        mmengine counts it as free.
    """

    def handle(macs):
        return lambda inputs, outputs: macs(
            _shape(inputs[0]), _shape(inputs[1])
        )

    forward = ('tied_qkv', 'tied_out', 'tied_ffn', 'tied_ffn_inference')
    handles = {f'{NAMESPACE}::{name}': handle(_MACS[name]) for name in forward}
    # as mmengine counts a layer norm: five operations per element
    handles[f'{NAMESPACE}::add_layer_norm'] = lambda inputs, outputs: (
        5 * prod(_shape(inputs[0]))
    )
    handles['aten::scaled_dot_product_attention'] = _attention
    return handles
