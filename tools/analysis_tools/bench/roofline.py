"""How fast the device multiplies and copies."""

from dataclasses import dataclass
from functools import partial
from typing import Dict

import torch

from halvit_mm.apis.timing import time_in_turns
from halvit_mm.ops import product_dtype

from .cases import Case

_COPY_BYTES = {'cpu': 64 << 20, 'cuda': 512 << 20}


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
        case: The case whose sizes, dtype and device are taken.

    Returns:
        The rates. On CPUs without 16-bit instructions they are those of
        float32.
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
