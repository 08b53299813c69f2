"""A forward pass as CUDA graphs: one launch instead of hundreds.

At batch 1 a ViT is bound by the launches of its kernels. A graph records
them once for fixed shapes and plays them back together.
"""

import logging
from contextlib import nullcontext
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Tuple,
    Union,
)

import torch
from torch import Tensor, nn

from .. import ops

Outputs = Union[Tensor, Tuple[Tensor, ...]]


class CapturedForward(NamedTuple):
    """A recorded forward pass.

    Attributes:
        inputs: The tensors that it reads.
        outputs: The tensor or the tuple of tensors that it writes.
        replay: The function that runs it.
        held: Whatever else it reads. A graph knows only addresses; what is
            held here is not freed while the graph exists.
    """

    inputs: Tuple[Tensor, ...]
    outputs: Outputs
    replay: Callable[[], None]
    held: List[Tensor]


class GraphedForward:
    """Calls a module in eval mode through CUDA graphs.

    The first call with new shapes, dtypes, device or dtype of autocast runs
    the module eagerly on a side stream and records it; later calls copy into
    the recorded inputs and replay. Results are those of the module. It has
    to be free of what a graph cannot hold: a choice that depends on values,
    or a copy to the CPU.

    Graphs hold the *addresses* of the weights:

    * A change in place is seen by the next call (an optimiser's step,
      ``load_state_dict``).
    * Packed copies (:func:`halvit_mm.models.pack_weights`) that are made or
      dropped, of whatever model, let all graphs be recorded anew.
      ``train()``, ``eval()``, ``load_state_dict()`` and moves drop them.
    * Tensors that are replaced (``module.to()``, ``p.data = ...``) are not
      seen, nor are another choice of operators or changed hooks:
      :meth:`reset`.

    Calls are to come from one thread. Each graph has memory of its own, so
    ``max_graphs`` bounds the memory, too. Shapes beyond it run eagerly: to
    record a graph costs several forward passes, and shapes that take turns
    would be slower than without graphs.

    Args:
        module: Takes tensors by position, returns a tensor or a tuple of
            tensors.
        max_graphs: Number of graphs to keep.
        copy_outputs: Whether results are copies. If not, the next call with
            the same shapes overwrites them.
        num_warmup: Eager runs before recording, in which libraries choose
            their algorithms.

    Raises:
        ValueError: If ``max_graphs`` or ``num_warmup`` is below 1.
    """

    #: The type of device whose tensors can be graphed.
    device_type = 'cuda'

    def __init__(
        self,
        module: nn.Module,
        max_graphs: int = 8,
        copy_outputs: bool = True,
        num_warmup: int = 3,
    ) -> None:
        if max_graphs < 1 or num_warmup < 1:
            raise ValueError(
                f'max_graphs={max_graphs} and num_warmup={num_warmup} must '
                'be at least 1'
            )
        self.module = module
        self.max_graphs = max_graphs
        self.copy_outputs = copy_outputs
        self.num_warmup = num_warmup
        self._graphs: Dict[Tuple, CapturedForward] = {}
        self._told = False
        self._graphs_version = ops.graphs_version()

    @property
    def num_graphs(self) -> int:
        """Number of shapes that are recorded."""
        return len(self._graphs)

    def reset(self) -> None:
        """Drop all graphs; the next call of each shape records it anew."""
        self._graphs.clear()
        self._told = False

    def __call__(self, *inputs: Tensor) -> Outputs:
        """Run the module.

        Args:
            inputs: Tensors on one GPU, of any shape.

        Returns:
            What the module returns, without gradients.

        Raises:
            ValueError: If gradients are enabled, the module is in training
                mode or returns something else, or an input is no tensor on
                a GPU.
        """
        self._check(inputs)
        if self._graphs_version != ops.graphs_version():
            self._graphs_version = ops.graphs_version()
            self.reset()
        key = self._key(inputs)
        captured = self._graphs.get(key)
        if captured is None:
            if len(self._graphs) >= self.max_graphs:
                return self._run_eagerly(inputs)
            parts = self.module.named_modules()
            if part := [name for name, m in parts if m.training]:
                raise ValueError(
                    f'{part} of {type(self.module).__name__} are in training '
                    'mode: call eval() before it is graphed'
                )
            # Tensors of inference mode could not be written outside of it.
            with torch.inference_mode(False), torch.no_grad():
                captured = self.capture(inputs)
            _check_outputs(self.module, captured.outputs)
            self._graphs[key] = captured
        for static, given in zip(captured.inputs, inputs):
            static.copy_(given)
        captured.replay()
        if not self.copy_outputs:
            return captured.outputs
        if isinstance(captured.outputs, Tensor):
            return captured.outputs.clone()
        return tuple(output.clone() for output in captured.outputs)

    def capture(self, inputs: Tuple[Tensor, ...]) -> CapturedForward:
        """Record the module for the shapes of some inputs, into new ones."""
        device = inputs[0].device
        static = tuple(given.clone() for given in inputs)
        stream = torch.cuda.Stream(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), self._autocast():
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(self.num_warmup):
                    self.module(*static)
            torch.cuda.current_stream().wait_stream(stream)
            # its own default is a stream of the first device ever graphed
            with torch.cuda.graph(graph, stream=stream):
                outputs = self.module(*static)
        held = list(_tensors_of(self.module))
        return CapturedForward(static, outputs, graph.replay, held)

    def _autocast(self):
        # As it is, but without its cache: a cast of an earlier call would be
        # no part of the graph, and its memory is freed where autocast ends.
        if not torch.is_autocast_enabled(self.device_type):
            return nullcontext()
        return torch.autocast(
            self.device_type,
            dtype=torch.get_autocast_dtype(self.device_type),
            cache_enabled=False,
        )

    def _key(self, inputs: Tuple[Tensor, ...]) -> Tuple:
        autocast = torch.is_autocast_enabled(self.device_type)
        return (
            tuple((x.shape, x.dtype, x.device) for x in inputs),
            torch.get_autocast_dtype(self.device_type) if autocast else None,
        )

    def _run_eagerly(self, inputs: Tuple[Tensor, ...]) -> Outputs:
        if not self._told:
            self._told = True
            logging.getLogger('halvit_mm').warning(
                '%s has been called with more than max_graphs=%d shapes: the '
                'others run without a graph.',
                type(self.module).__name__,
                self.max_graphs,
            )
        return self.module(*inputs)

    def _check(self, inputs: Tuple[Any, ...]) -> None:
        name = type(self.module).__name__
        problem = ''
        if torch.is_grad_enabled():
            problem = 'has no gradients: call it under torch.no_grad()'
        elif self.module.training:
            problem = 'is in training mode: call eval() before it is graphed'
        elif not inputs:
            problem = 'needs at least one tensor'
        if problem:
            raise ValueError(f'a graph of {name} {problem}')
        for i, x in enumerate(inputs):
            if not isinstance(x, Tensor):
                problem = f'a {type(x).__name__}, not a tensor'
            elif x.device.type != self.device_type:
                problem = f'on {x.device}: graphs need {self.device_type}'
            elif x.device != inputs[0].device:
                problem = (
                    f'on {x.device}, the first one on {inputs[0].device}: '
                    'graphs need one device'
                )
            if problem:
                raise ValueError(f'input {i} of {name} is {problem}')


def _tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Find every tensor in an attribute of a part, or in a dict of one."""
    for part in module.modules():
        for value in vars(part).values():
            values = value.values() if isinstance(value, dict) else (value,)
            yield from (v for v in values if isinstance(v, Tensor))


def _check_outputs(module: nn.Module, outputs: Any) -> None:
    if isinstance(outputs, Tensor):
        return
    if type(outputs) is tuple and all(isinstance(o, Tensor) for o in outputs):
        return
    raise ValueError(
        f'{type(module).__name__} returns a {type(outputs).__name__}: graphs '
        'need a tensor or a tuple of tensors'
    )
