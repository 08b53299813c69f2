"""What it costs to call a layer's operators, apart from what they compute.

A training step of one layer whose kernels do nothing and whose products are
tiny, on a CPU: ``python -m tests.ops.csrc.dispatch``. The variants take turns;
the medians are printed in milliseconds.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROUNDS, STEPS = 30, 20
B, T, D, HEADS, F = 1, 4, 16, 2, 64
VARIANTS = ('plain', 'fallback')


def time_variants(library: str) -> None:
    """Time the variants in this process; with a library, as 'cuda'."""
    import ctypes

    import torch

    from halvit_mm import ops

    names = VARIANTS
    if library:
        torch.ops.load_library(library)
        ctypes.CDLL(library).halvit_host_idle(1)
        names = ('plain', 'library')
    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(False)
    x = torch.randn(B, T, D, requires_grad=True)
    vectors = [torch.randn(D, requires_grad=True) for _ in range(10)]
    wq, wkv = (torch.randn(D, D, requires_grad=True) for _ in range(2))
    w, b1 = torch.randn(F, D, requires_grad=True), torch.randn(F)
    b1.requires_grad_()
    weights = [*vectors, wq, wkv, w, b1]

    def step():
        g1, c1, g2, c2, bq, bk, bv, bo, b2, _ = vectors
        with torch.autocast('cpu', torch.bfloat16):
            y = ops.layer_norm(x, g1, c1, 1e-6)
            *qkv, cast = ops.tied_qkv(y, wq, wkv, bq, bk, bv)
            q, k, v = (t.view(B, T, HEADS, -1).transpose(1, 2) for t in qkv)
            o = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            o = o.transpose(1, 2).reshape(B, T, D)
            y = ops.tied_out(o, wq, bo, packed=cast)
            total, y = ops.add_layer_norm(x, y, g2, c2, 1e-6)
            out = total + ops.tied_ffn(y, w, b1, b2)
        out.backward(out)
        for t in (x, *weights):
            t.grad = None

    found = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            with ops.use('fallback' if name == 'library' else name):
                step()
                start = time.process_time()
                for _ in range(STEPS):
                    step()
                found[name].append((time.process_time() - start) / STEPS)
    print(json.dumps({k: 1e3 * median(v) for k, v in found.items()}))


def main() -> None:
    """Build the library for the CPU, and time with and without it."""
    from .build import build_host_library

    with tempfile.TemporaryDirectory() as folder:
        library = build_host_library(Path(folder) / 'libhalvit_host.so')
        for path in ('', str(library)):
            subprocess.run(
                [sys.executable, '-m', __spec__.name, 'time', path],
                check=True,
                env=dict(os.environ, OMP_NUM_THREADS='1'),
            )


if __name__ == '__main__':
    time_variants(sys.argv[2]) if sys.argv[1:] else main()
