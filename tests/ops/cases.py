"""Inputs of the operators, and what each is to equal."""

from typing import Callable, NamedTuple, Tuple

import torch

from halvit_mm import ops
from halvit_mm.ops import reference

B, D, F = 2, 8, 12
EPS = 1e-6


class Case(NamedTuple):
    """One call of an operator.

    Attributes:
        function: With the definition's arguments.
        definition: Of :mod:`halvit_mm.ops.reference`.
        shapes: Of the positional tensors; what is no shape is passed on.
        options: Keyword arguments.
    """

    function: Callable
    definition: Callable
    shapes: Tuple
    options: dict = {}

    def inputs(self, dtype=torch.float64):
        return [
            torch.randn(shape, dtype=dtype, requires_grad=True)
            if isinstance(shape, tuple)
            else shape
            for shape in self.shapes
        ]

    def __call__(self, *inputs):
        return outputs(self.function(*inputs, **self.options))

    def expected(self, *inputs):
        return outputs(self.definition(*inputs, **self.options))


def outputs(result):
    """Results that gradients flow through, as a tuple."""
    result = result if isinstance(result, tuple) else (result,)
    return tuple(t for t in result if t is not None and t.requires_grad)


def normed(function):
    """Puts ``eps`` where the differentiable arguments end."""

    def call(residual, delta, weight, bias, **options):
        return function(residual, delta, weight, bias, EPS, **options)

    return call


def cases(tokens=3):
    """Name -> case."""
    x = (B, tokens, D)
    norm = (normed(ops.add_layer_norm), normed(reference.add_layer_norm))
    scale = dict(row_scale=torch.tensor([0.0, 1.25], dtype=torch.float64))
    qkv = (ops.tied_qkv, reference.tied_qkv)
    out = (ops.tied_out, reference.tied_out)
    ffn = (ops.tied_ffn, reference.tied_ffn)
    matrices = (x, (D, D), (D, D))
    return {
        'norm': Case(*norm, (x, None, (D,), (D,))),
        'add-norm': Case(*norm, (x, x, (D,), (D,))),
        'add-norm-scale': Case(*norm, (x, x, (D,), (D,)), scale),
        'qkv': Case(*qkv, (*matrices, (D,), (D,), (D,))),
        'qkv-no-bias': Case(*qkv, matrices),
        'qkv-value-bias': Case(*qkv, (*matrices, None, None, (D,))),
        'out': Case(*out, (x, (D, D), (D,))),
        'out-no-bias': Case(*out, (x, (D, D))),
        'ffn': Case(*ffn, (x, (F, D), (F,), (D,))),
        'ffn-no-bias': Case(*ffn, (x, (F, D))),
        'ffn-tanh': Case(*ffn, (x, (F, D), (F,), (D,), 'tanh')),
        'ffn-signed': Case(*ffn, (x, (F, D), (F,), (D,)), dict(signed=True)),
        'ffn-signed-no-bias': Case(*ffn, (x, (F, D)), dict(signed=True)),
    }


NAMES = list(cases())
