"""One step of a case."""

from contextlib import AbstractContextManager
from typing import Callable, Dict, Hashable, Tuple

import torch
from torch import Tensor, nn

from halvit_mm.apis.timing import Clock

from .cases import Case


class Step:
    """A forward pass and, in training, a backward pass and an optimiser's.

    The gradient of the output is noise, the same in every step and for every
    variant. Learning rates are 0: optimisers do their work, but every step
    computes the same.

    Args:
        case: The case to run.
        module: What the case built, perhaps changed by a variant.
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
        training = case.mode == 'train'
        self.optimizer = case.optimizer(module) if training else None
        self._output_grads: Tuple[Tensor, ...] = ()

    def __call__(
        self, mark: Callable[[Hashable], None] = lambda phase: None
    ) -> Tuple[Tensor, ...]:
        """Run the step and return the outputs of the forward pass.

        Args:
            mark: Called with the name of each phase that begins, and with
                None at the end.
        """
        torch.manual_seed(0)  # detectors sample
        self.zero_grad()
        mark('forward')
        outputs = self.forward()
        if self.case.mode == 'train':
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

    def time(self, repeats: int = 1) -> Dict[str, float]:
        """Run the step some times and drop the gradients.

        Returns:
            Phase -> milliseconds of a step, on average.
        """
        clock = Clock(self.case.device)
        for _ in range(repeats):
            self(clock.mark)
        phases = clock.phases()
        self.zero_grad()
        return {name: ms / repeats for name, ms in phases.items()}

    def forward(self) -> Tuple[Tensor, ...]:
        """Run the forward pass, with a graph in training."""
        case = self.case
        autocast = torch.autocast(
            case.device_type, case.torch_dtype, case.dtype != 'fp32'
        )
        training = torch.set_grad_enabled(case.mode == 'train')
        with self.context(), training, autocast:
            return case.forward(self.module, self.inputs)

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
    return torch.randn(output.shape, generator=generator).to(output)
