"""PyTorch's counter counts what the operators compute."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from halvit_mm import ops

from .cases import NAMES, cases


def flops(case, inputs, choice):
    """Of the forward pass, and of both passes."""
    with ops.use(choice):
        with FlopCounterMode(display=False) as forward:
            outs = case(*inputs)
        with FlopCounterMode(display=False) as backward:
            sum(out.sum() for out in outs).backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize('frozen', [(), (0,), (1,)])
@pytest.mark.parametrize('name', NAMES)
def test_counts_are_those_of_the_definition(name, frozen):
    case = cases(5)[name]
    inputs = case.inputs()
    for i in frozen:
        if isinstance(inputs[i], torch.Tensor):
            inputs[i] = inputs[i].detach()
    forward, backward = flops(case, inputs, 'auto')
    expected = flops(case, inputs, 'plain')
    assert forward == expected[0]
    assert backward == expected[1]


def test_inference():
    case = cases(5)['ffn']
    inputs = case.inputs()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        case.function(*inputs)
    assert counter.get_total_flops() == 2 * 2 * 2 * 5 * 8 * 12
