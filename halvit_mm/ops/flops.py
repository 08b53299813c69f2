"""Multiply-adds of the operators, for mmengine's counter.

``torch.utils.flop_counter.FlopCounterMode`` knows the operators from their
registration. ``mmengine.analysis`` is given :func:`jit_handles`:

.. code-block:: python

    analyzer = FlopAnalyzer(model, image)
    analyzer.set_op_handle(**jit_handles())
"""

from math import prod
from typing import Any, Callable, Dict, Sequence

from .register import MACS, NAMESPACE


def _shape(value: Any) -> Sequence[int]:
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
    handles = {f'{NAMESPACE}::{name}': handle(MACS[name]) for name in forward}
    # as mmengine counts a layer norm: five operations per element
    handles[f'{NAMESPACE}::add_layer_norm'] = lambda inputs, outputs: (
        5 * prod(_shape(inputs[0]))
    )
    handles['aten::scaled_dot_product_attention'] = _attention
    return handles
