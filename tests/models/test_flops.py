"""mmengine's counter, with our handles, counts what the operators compute."""

import torch
from mmengine.analysis import FlopAnalyzer

from halvit_mm.models.backbones import HaLViT
from halvit_mm.ops import jit_handles


def test_mmengine():
    """T's multiply-adds with attention at 224 px, and its norms."""
    analyzer = FlopAnalyzer(HaLViT('tiny').eval(), torch.zeros(1, 3, 224, 224))
    analyzer.set_op_handle(**jit_handles())
    counts = analyzer.by_operator()
    norms = 25 * 5 * 197 * 384
    assert counts.pop('layer_norm') == norms
    assert sum(counts.values()) == 4_598_498_304


def test_mmengine_knows_the_operators():
    x, wq, wkv, w = (torch.randn(n, 8) for n in (6, 8, 8, 12))
    H = torch.ops.halvit

    class Module(torch.nn.Module):
        def forward(self, x):
            q, _, _, packed = H.tied_qkv(x, wq, wkv, None, None, None)
            y = H.tied_out(q, wq, packed, None)
            y = H.tied_ffn(y, w, None, None, False, 'none')[0]
            return H.tied_ffn_inference(y, w, None, None, False, 'none')

    analyzer = FlopAnalyzer(Module(), x)
    analyzer.set_op_handle(**jit_handles())
    counts = analyzer.by_operator()
    tokens = 6
    assert counts['tied_qkv'] == 3 * tokens * 8 * 8
    assert counts['tied_out'] == tokens * 8 * 8
    assert counts['tied_ffn'] == 2 * tokens * 8 * 12
    assert counts['tied_ffn_inference'] == counts['tied_ffn']
