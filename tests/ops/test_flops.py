"""Both counters count what the operators compute."""

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from torch.utils.flop_counter import FlopCounterMode

from halvit_mm import ops
from halvit_mm.models.backbones import HaLViT
from halvit_mm.ops import jit_handles

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


def test_mmengine():
    """T's multiply-adds with attention at 224 px, and its norms."""
    analyzer = FlopAnalyzer(HaLViT('tiny').eval(), torch.zeros(1, 3, 224, 224))
    analyzer.set_op_handle(**jit_handles())
    counts = analyzer.by_operator()
    norms = 25 * 5 * 197 * 384
    assert counts.pop('layer_norm') == norms
    assert sum(counts.values()) == 4_598_498_304


def test_mmengine_knows_the_operators():
    x, wq, wkv, *_ = (t.detach() for t in cases()['qkv'].inputs())
    w = torch.randn(12, 8).double()
    H = torch.ops.halvit

    class Module(torch.nn.Module):
        def forward(self, x):
            q, _, _, packed = H.tied_qkv(x, wq, wkv, None, None, None)
            y = H.tied_out(q, wq, packed, None)
            y = H.tied_ffn(y, w, None, None, False, 'none', 0)[0]
            return H.tied_ffn_inference(y, w, None, None, False, 'none', 0)

    analyzer = FlopAnalyzer(Module(), x)
    analyzer.set_op_handle(**jit_handles())
    counts = analyzer.by_operator()
    tokens = 2 * 3
    assert counts['tied_qkv'] == 3 * tokens * 8 * 8
    assert counts['tied_out'] == tokens * 8 * 8
    assert counts['tied_ffn'] == 2 * tokens * 8 * 12
    assert counts['tied_ffn_inference'] == counts['tied_ffn']
