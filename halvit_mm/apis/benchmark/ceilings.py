"""What the device can do: products, bandwidth, and the work of a step."""

import statistics
from typing import Callable, Dict, List, NamedTuple, Tuple

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from ...ops.fallback.products import product_dtype
from .cases import Case
from .steps import Clock

__all__ = ['Ceilings', 'count_flops', 'measure_ceilings']

_SECONDS = 0.1
_MIN_REPEATS = 3
_COPY_BYTES = {'cpu': 64 << 20, 'cuda': 512 << 20}
_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_CPU_ATTENTION_BACKWARD = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
)


class Ceilings(NamedTuple):
    """Medians of what was measured beside the case.

    Attributes:
        tflops: Product as ``m x n x k`` -> TFLOP/s, 2 operations per
            multiply-add.
        gbytes: GB/s of a copy, read and written bytes.
        dtype: Of the products.
    """

    tflops: Dict[str, float]
    gbytes: float
    dtype: str

    @property
    def best_tflops(self) -> float:
        """Of the fastest product."""
        return max(self.tflops.values())


def measure_ceilings(case: Case) -> Ceilings:
    """Time the products of a layer of the case, and a copy.

    Args:
        case: Its sizes, dtype and device count.

    Returns:
        The ceilings. 16-bit products run in float32 on CPUs that have no
        units for them.
    """
    device = torch.device(case.device)
    dtype = product_dtype(
        torch.empty(0, device=device, dtype=case.torch_dtype)
    )
    tflops = {}
    for m, n, k in _products(case):
        a = torch.randn(m, k, device=device).to(dtype)
        b = torch.randn(k, n, device=device).to(dtype)
        out = torch.empty(m, n, device=device, dtype=dtype)
        seconds = _seconds(
            lambda a=a, b=b, o=out: torch.mm(a, b, out=o), device
        )
        tflops[f'{m} x {n} x {k}'] = 2 * m * n * k / seconds / 1e12
    size = _COPY_BYTES[device.type]
    source = torch.zeros(size, device=device, dtype=torch.uint8)
    target = torch.ones_like(source)
    seconds = _seconds(lambda: target.copy_(source), device)
    name = str(dtype).rpartition('.')[2]
    return Ceilings(tflops, 2 * size / seconds / 1e9, name)


def count_flops(step: Callable[[], object]) -> int:
    """Operations of matrix products, attention and convolutions.

    Args:
        step: Called once; eager, for compiled code hides them.

    Returns:
        Two per multiply-add.
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


def _products(case: Case) -> List[Tuple[int, int, int]]:
    """m, n, k of packed q, k, v, of both of the FFN, and of its gradient."""
    T, D, F, _ = case.sizes
    rows = case.batch * T
    products = [(rows, 3 * D, D), (rows, F, D), (rows, D, F)]
    return products + [(F, D, rows)] * (case.mode == 'train')


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    run()
    in_a_row = 10 if device.type == 'cuda' else 1  # hides the launches
    samples: List[float] = []
    while len(samples) < _MIN_REPEATS or sum(samples) < _SECONDS:
        clock = Clock(str(device))
        clock.mark('run')
        for _ in range(in_a_row):
            run()
        clock.mark(None)
        samples.append(clock.phases()['run'] / 1e3 / in_a_row)
    return statistics.median(samples)
