"""One step of a case, and the clock that times its phases."""

import time
from contextlib import AbstractContextManager
from typing import Callable, Dict, List, Tuple

import torch
from torch import Tensor, nn

from .cases import Case

__all__ = ['Clock', 'Step']

#: Gives a phase its name and starts it; None ends the last one.
Mark = Callable[[object], None]


class Clock:
    """Milliseconds of the phases of steps.

    On a GPU they are the time between events in its queue.

    Args:
        device: What is timed.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self._marks: List[Tuple[object, object]] = []

    def mark(self, phase) -> None:
        """Start a phase and end the one before it.

        Args:
            phase: Its name; None for no new one.
        """
        if self.device.type == 'cuda':
            now = torch.cuda.Event(enable_timing=True)
            now.record(torch.cuda.current_stream(self.device))
        else:
            now = time.perf_counter()
        self._marks.append((phase, now))

    def phases(self) -> Dict[str, float]:
        """Returns: Milliseconds by name, summed over all steps."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        total: Dict[str, float] = {}
        for (phase, start), (_, end) in zip(self._marks, self._marks[1:]):
            if phase is not None:
                total[phase] = total.get(phase, 0.0) + _between(start, end)
        return total


class Step:
    """A forward pass and, in training, a backward pass and an optimiser's.

    The gradient of the output is noise, the same in every step and for every
    variant. Learning rates are 0: optimisers do their work, but every step
    computes the same.

    Args:
        case: What to run.
        module: From the case, perhaps changed.
        context: Makes the context that the module runs in.
    """

    def __init__(
        self,
        case: Case,
        module: nn.Module,
        context: Callable[[], AbstractContextManager],
    ) -> None:
        self.case = case
        self.module = module
        self.context = context
        torch.manual_seed(0)
        self.inputs = case.inputs(module)
        self.optimizer = case.optimizer(module)
        self._output_grads: Tuple[Tensor, ...] = ()

    def __call__(self, mark: Mark = lambda phase: None) -> Tuple[Tensor, ...]:
        """Run it. Args: mark: Told of each phase. Returns: The outputs."""
        torch.manual_seed(0)  # detectors sample
        if self.case.mode == 'infer':
            mark('forward')
            outputs = self.forward()
            mark(None)
            return outputs
        self.zero_grad()
        mark('forward')
        outputs = self.forward()
        if not self._output_grads:
            self._output_grads = tuple(_noise_like(o) for o in outputs)
        mark('backward')
        with self.context():
            torch.autograd.backward(outputs, self._output_grads)
        if self.optimizer is not None:
            mark('optimiser')
            self.optimizer.step()
        mark(None)
        return outputs

    def forward(self) -> Tuple[Tensor, ...]:
        """Returns: The outputs, with a graph in training."""
        training = self.case.mode == 'train'
        with (
            self.context(),
            torch.set_grad_enabled(training),
            self.case.autocast(),
        ):
            return self.case.forward(self.module, self.inputs)

    def zero_grad(self) -> None:
        """Drop the gradients of parameters and inputs."""
        self.module.zero_grad(set_to_none=True)
        for x in self.inputs:
            if isinstance(x, Tensor):
                x.grad = None


def _noise_like(output: Tensor) -> Tensor:
    if not output.dim():  # a loss
        return torch.ones_like(output)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(output.shape, generator=generator)
    return noise.to(output)


def _between(start, end) -> float:
    if isinstance(start, float):
        return (end - start) * 1e3
    return start.elapsed_time(end)
