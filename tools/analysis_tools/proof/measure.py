"""A training step of one layer: its time, its kernels, its memory.

Shapes: B batch, T tokens of an image, D width.
"""

from contextlib import AbstractContextManager
from functools import partial
from typing import Callable, Dict, List, NamedTuple

import torch
from timing import time_in_turns
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from halvit_mm import ops

from .layer import TiedLayer

_COPY_BYTES = {'cpu': 1 << 20, 'cuda': 512 << 20}
_NO_KERNEL = ('Memcpy', 'Memset', '##')


class Variant(NamedTuple):
    """A way to compute the layer.

    Attributes:
        context: Makes the context of a step.
        is_compiled: Whether it goes through ``torch.compile``.
        is_ours: Whether it runs the operators.
    """

    context: Callable[[], AbstractContextManager]
    is_compiled: bool
    is_ours: bool


VARIANTS = {
    'naive': Variant(partial(ops.use, 'plain'), False, False),
    'ours': Variant(ops.use, False, True),
    'compile': Variant(partial(ops.use, 'plain'), True, False),
    'compile + ours': Variant(partial(ops.use, in_compile=True), True, True),
}


class LayerStep:
    """Forward and backward of one layer in bfloat16 by autocast.

    All variants have the same weights, input and gradient of the output.

    Args:
        name: One of :data:`VARIANTS`.
        width: D.
        batch: B.
        tokens: T.
        device: ``'cpu'`` or ``'cuda'``.
    """

    def __init__(
        self, name: str, width: int, batch: int, tokens: int, device: str
    ) -> None:
        torch.manual_seed(0)
        self.variant = VARIANTS[name]
        self.device = device
        self.layer = TiedLayer(width).to(device)
        if self.variant.is_compiled:
            # On a CPU the compiler itself would take most of a dry run.
            backend = 'inductor' if device == 'cuda' else 'aot_eager'
            self.layer.compile(dynamic=False, backend=backend)
        shape = batch, tokens, width
        self.x = torch.randn(shape, device=device, requires_grad=True)
        self.grad = torch.randn(shape, device=device)
        self.y = self.x.detach()

    def __call__(self) -> None:
        """Run it; the output is in ``y``, gradients are in their places."""
        self.layer.zero_grad(set_to_none=True)
        self.x.grad = None
        # A cast that autocast kept would be no part of a CUDA graph.
        autocast = torch.autocast(
            self.device, torch.bfloat16, cache_enabled=False
        )
        with self.variant.context():
            with autocast:
                y = self.layer(self.x)
            y.backward(self.grad)
        self.y = y.detach()

    def results(self) -> List[torch.Tensor]:
        """Return the output and the gradients.

        That of the keys' bias is left out: it is zero but for rounding.
        """
        parameters = self.layer.named_parameters()
        grads = [p.grad for name, p in parameters if name != 'bk']
        return [self.y, self.x.grad, *grads]


def difference(step: LayerStep, other: LayerStep) -> float:
    """Compare two steps: the largest relative norm of a difference."""
    pairs = zip(step.results(), other.results())
    return max(float((a - b).norm() / (b.norm() + 1e-12)) for a, b in pairs)


def profiled(run: Callable[[], None], device: str) -> List[Dict]:
    """Profile one run.

    Args:
        run: What to run; it has run before.
        device: Its kernels are listed; on a CPU the operators are.

    Returns:
        A dict for each kernel: ``name``, ``count`` and ``us``, microseconds
        of all its launches; the longest first.
    """
    on_gpu = device == 'cuda'
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        run()
        if on_gpu:
            torch.cuda.synchronize()
    rows = []
    for event in profiler.key_averages():
        if on_gpu:
            us = event.self_device_time_total
            counts = event.device_type == DeviceType.CUDA
            counts &= not event.is_user_annotation
            counts &= not event.key.startswith(_NO_KERNEL)
        else:
            us = event.self_cpu_time_total
            counts = '::' in event.key
        if counts:
            rows.append(dict(name=event.key, count=event.count, us=us))
    return sorted(rows, key=lambda row: -row['us'])


def peak_bytes(run: Callable[[], None], device: str) -> int:
    """Measure the memory that a run needs on top; 0 on a CPU."""
    if device == 'cpu':
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def copy_rate(device: str) -> float:
    """Measure a copy on the device, GB/s; what is read and written counts."""
    source = torch.zeros(_COPY_BYTES[device], device=device, dtype=torch.uint8)
    runs = {'copy': partial(torch.empty_like(source).copy_, source)}
    seconds = time_in_turns(runs, 11, device, in_a_row=10)['copy']
    return 2 * len(source) / seconds / 1e9
