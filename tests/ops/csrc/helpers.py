"""What the cases of the CUDA sources on a CPU share.

``test_csrc_host.py`` runs them in a process of its own, because the library
takes the place of the operators for the CPU. ``HALVIT_HOST_LIBRARY`` names it.
The cases are called ``cases_*.py``, so that no other run collects them.

Shapes: (samples, tokens, width); hidden: the width of the hidden units.
"""

import ctypes
import os

import torch

import halvit_mm.ops  # noqa: F401  defines the operators

LIBRARY = os.environ['HALVIT_HOST_LIBRARY']
torch.ops.load_library(LIBRARY)
HOST = ctypes.CDLL(LIBRARY)
HOST.halvit_host_record.restype = ctypes.c_char_p
OPS = torch.ops.halvit

# What an operator leaves out of its results is NaN, not a zero by chance.
torch.use_deterministic_algorithms(True)

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
# (of x, of the weights)
DTYPES = [(F32, F32), (F16, F32), (BF16, F32), (BF16, BF16), (F32, F16)]
# Norm of the error over that of the result: a few roundings of the dtype.
TOLERANCE = {F32: 3e-6, F16: 3e-3, BF16: 2e-2}
TOKENS = [1, 5, 197]
WIDTHS = [8, 48]


def record():
    """Names of the kernels launched since the last call."""
    return HOST.halvit_host_record().decode().splitlines()


def rand(*shape, dtype=F32, scale=1.0):
    return (torch.randn(shape) * scale).to(dtype)


def wide(tensor, dtype=None):
    """A float64 leaf of the values, as they are in ``dtype``."""
    if tensor is None:
        return None
    tensor = tensor if dtype is None else tensor.to(dtype)
    return tensor.double().requires_grad_()


def assert_close(actual, expected, dtype, name=''):
    expected = expected.detach()
    assert actual.shape == expected.shape, name
    assert not actual.isnan().any(), name
    error = (actual.double() - expected).norm()
    limit = TOLERANCE[dtype] * max(expected.norm().item(), 1e-6)
    assert error <= limit, f'{name}: {error / expected.norm():.2e}'


def assert_all(actual, expected, needs, dtypes, dtype):
    """What is needed is right, of the right dtype; the rest is empty."""
    for i, (a, e, need) in enumerate(zip(actual, expected, needs)):
        if not need:
            assert not a.numel(), i
            continue
        assert a.dtype == dtypes[i], i
        assert_close(a, e, dtype, f'output {i}')


def grads_of(outputs, inputs, gradients):
    """Float64 gradients; None stands for a gradient of zeros."""
    gradients = [
        torch.zeros_like(o) if g is None else g.double()
        for o, g in zip(outputs, gradients)
    ]
    options = dict(allow_unused=True, materialize_grads=True)
    return torch.autograd.grad(
        outputs, inputs, gradients, retain_graph=True, **options
    )


def masks(count, some=True):
    """All needed; and, of some inputs only, none and each alone."""
    if not some:
        return [[True] * count]
    alone = [[i == j for j in range(count)] for i in range(count)]
    return [[True] * count, [False] * count, *alone]


def loosest(*dtypes):
    return max(dtypes, key=lambda dtype: TOLERANCE[dtype])
