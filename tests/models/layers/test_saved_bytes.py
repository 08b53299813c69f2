"""What a layer keeps for its backward pass."""

import pytest
import torch
from bench.saved import saved_bytes

from halvit_mm import ops
from halvit_mm.models.layers import TiedEncoderLayer

T, D, HEADS = 50, 32, 4


@pytest.mark.parametrize(
    ('choice', 'per_token_and_channel'), [('auto', 28), ('plain', 40)]
)
def test_what_a_layer_keeps(choice, per_token_and_channel):
    """In bytes, in 16-bit: 4 + 2 (norm), 6 (q, k, v), 2 (o), 4 + 2 (norm),
    8 (u); the definitions keep the norms in float32 and the hidden units.
    """  # noqa: D205
    layer = TiedEncoderLayer(
        D, HEADS, 4 * D, norm_cfg=dict(type='LN', eps=1e-6)
    )

    def kept(batch):
        x = torch.randn(batch, T, D, requires_grad=True)

        def run():
            with ops.use(choice), torch.autocast('cpu', torch.bfloat16):
                return layer(x, (5, 10))

        saved = saved_bytes(run, layer)
        return saved.activations + saved.weights

    grows = (kept(6) - kept(2)) / 4  # what does not grow are cast weights
    tokens = T * D
    rest = T * (4 * 4 + HEADS * 4)  # mean and rstd twice, logsumexp
    assert abs(grows - per_token_and_channel * tokens) <= rest
    if choice == 'auto':
        weights = 2 * (2 * D * D + 4 * D * D)
        assert kept(2) <= 2 * (28 * tokens + rest) + weights + 64
