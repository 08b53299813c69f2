"""How fast the device multiplies and copies, and the work of a step."""

from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from halvit_mm.apis.timing import time_in_turns
from halvit_mm.ops.fallback.products import product_dtype

from .cases import Case

__all__ = ['Roofline', 'count_flops', 'measure_roofline']

_COPY_BYTES = {'cpu': 64 << 20, 'cuda': 512 << 20}
_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_CPU_ATTENTION_BACKWARD = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
)


@dataclass
class Roofline:
    """Rates that were measured beside a case.

    Attributes:
        tflops: Matrix product as ``m x n x k`` -> TFLOP/s, with 2 operations
            per multiply-add.
        gbytes: GB/s of a copy; read and written bytes both count.
        dtype: The dtype of the products.
    """

    tflops: Dict[str, float]
    gbytes: float
    dtype: str

    @property
    def best_tflops(self) -> float:
        """The rate of the fastest product."""
        return max(self.tflops.values())


def measure_roofline(case: Case) -> Roofline:
    """Time the matrix products of a layer, and a copy.

    Args:
        case: Gives sizes, dtype and device.

    Returns:
        The rates. 16-bit products run in float32 on CPUs that have no
        instructions for them.
    """
    dtype = product_dtype(
        torch.empty(0, device=case.device, dtype=case.torch_dtype)
    )
    T, D, F, _ = case.sizes
    rows = case.batch * T
    # packed q, k and v, both products of the FFN, the gradient of one of them
    shapes = [(rows, 3 * D, D), (rows, F, D), (rows, D, F)]
    shapes += [(F, D, rows)] * (case.mode == 'train')
    runs = {}
    for m, n, k in shapes:
        a, b = (
            torch.randn(shape, device=case.device).to(dtype)
            for shape in ((m, k), (k, n))
        )
        runs[m, n, k] = partial(torch.mm, a, b, out=a.new_empty(m, n))
    size = _COPY_BYTES[case.device_type]
    source = torch.zeros(size, device=case.device, dtype=torch.uint8)
    runs['copy'] = partial(torch.ones_like(source).copy_, source)
    # on a GPU, several in a row hide the launches
    rounds, in_a_row = (20, 10) if case.device_type == 'cuda' else (5, 1)
    seconds = time_in_turns(runs, rounds, case.device, in_a_row)
    copy = seconds.pop('copy')
    tflops = {
        f'{m} x {n} x {k}': 2 * m * n * k / took / 1e12
        for (m, n, k), took in seconds.items()
    }
    return Roofline(tflops, 2 * size / copy / 1e9, str(dtype).split('.')[-1])


def count_flops(step: Callable[[], object]) -> int:
    """Count the operations of matrix products, attention and convolutions.

    Args:
        step: Called once. It must not be compiled: compiled code hides its
            operators from the counter.

    Returns:
        The operations, two per multiply-add.
    """

    def attention(q, k, v, *args, out_shape=None, **kwargs) -> int:
        return sdpa_flop_count(q, k, v)

    def attention_backward(g, q, k, v, *args, out_shape=None, **kwargs) -> int:
        return sdpa_backward_flop_count(g, q, k, v)

    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            _CPU_ATTENTION: attention,
            _CPU_ATTENTION_BACKWARD: attention_backward,
        },
    )
    with counter:
        step()
    return counter.get_total_flops()
