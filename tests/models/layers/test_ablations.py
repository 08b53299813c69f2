"""What stands between both uses of a tied matrix: signs, gains, a shift."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from halvit_mm.models.backbones import HaLViT
from halvit_mm.models.layers import (
    GainedFFN,
    GainedSelfAttention,
    ShiftedFFN,
    ShiftedSignedFFN,
    SignedFFN,
    TiedFFN,
    TiedSelfAttention,
    pack_weights,
)
from tests.helpers import ARCH, build, num_params, randomise

D, HIDDEN = 24, 40
X = torch.randn(2, 6, D, generator=torch.Generator().manual_seed(0))
GAINS = {
    'none': (TiedFFN, ShiftedFFN, {}),
    'signed': (SignedFFN, ShiftedSignedFFN, {}),
    'learnt': (GainedFFN, GainedFFN, {}),
    'learnt_signed': (GainedFFN, GainedFFN, dict(signed_start=True)),
}
SIGNS = torch.cat((torch.ones(HIDDEN // 2), -torch.ones(HIDDEN // 2)))


def build_ffn(gain, shift, dims=(D, HIDDEN), **kwargs):
    plain_cls, shifted_cls, options = GAINS[gain]
    if not shift:
        return plain_cls(*dims, **options, **kwargs)
    return shifted_cls(*dims, hidden_shift=shift, **options, **kwargs)


def by_hand(ffn, x, shift):
    """The network unit by unit, with the factors it has."""
    w, b1, b2 = ffn.tied.weight, ffn.tied.bias, ffn.tied.transposed_bias
    hidden = F.gelu(torch.einsum('fd,btd->btf', w, x) + b1)
    factors = torch.ones(HIDDEN)
    if isinstance(ffn, SignedFFN):
        factors = SIGNS
    if isinstance(ffn, GainedFFN):
        factors = ffn.gain.weight
    written = [w[(i + shift) % HIDDEN] for i in range(HIDDEN)]
    written = torch.stack(written)
    return torch.einsum('fd,btf->btd', written, hidden * factors) + b2


@pytest.mark.parametrize('shift', [0, 7])
@pytest.mark.parametrize('gain', GAINS)
def test_ffn(gain, shift):
    ffn = randomise(build_ffn(gain, shift))
    expected = by_hand(ffn, X, shift)
    assert_close(ffn(X), expected)
    assert_close(ffn.forward_plain(X), expected)


@pytest.mark.parametrize('shift', [0, 7])
@pytest.mark.parametrize('gain', GAINS)
def test_ffn_with_dropout(gain, shift):
    """The path that keeps a mask computes the same but for the mask."""
    ffn = randomise(build_ffn(gain, shift, drop_rate=1e-9)).train()
    assert_close(ffn(X), by_hand(ffn, X, shift))


def test_attention():
    attn = randomise(GainedSelfAttention(D, 3))
    plain = TiedSelfAttention(D, 3)
    state = attn.state_dict()
    factors = state.pop('gain.weight')
    plain.load_state_dict(state)
    wq, bo = plain.q.weight, plain.q.transposed_bias
    before_output = torch.linalg.solve(wq.T, (plain(X, (2, 3)) - bo).mT).mT
    expected = (before_output * factors) @ wq + bo
    assert_close(attn(X, (2, 3)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ('gain', 'more'), [('none', 0), ('signed', 0), ('learnt', 3 * (64 + 32))]
)
def test_parameters(gain, more):
    """Signs are constants: nothing more is stored."""
    plain = build(HaLViT)
    model = build(HaLViT, gain=gain)
    assert num_params(model) - num_params(plain) == more
    if not more:
        assert list(model.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize(
    ('gain', 'like'), [('learnt', 'none'), ('learnt_signed', 'signed')]
)
def test_learnt_gains_start_as_the_fixed_ones(gain, like):
    torch.manual_seed(1)
    fixed = build(HaLViT, gain=like)
    learnt = build(HaLViT, gain=gain)
    state = learnt.state_dict()
    state.update(fixed.state_dict(), variant=learnt.variant)
    learnt.load_state_dict(state)
    if gain == 'learnt_signed':
        for layer in learnt.layers:  # attention has no fixed signs
            layer.attn.gain.weight.data.fill_(1)
    image = torch.randn(1, 3, 32, 32)
    assert_close(learnt(image), fixed(image))


def test_only_a_shift_makes_the_jacobian_asymmetric():
    for shift in (0, HIDDEN // 4):
        for gain in ('none', 'signed'):
            ffn = randomise(build_ffn(gain, shift))
            jacobian = torch.autograd.functional.jacobian(
                lambda x, ffn=ffn: ffn(x[None, None])[0, 0], X[0, 0]
            )
            asymmetry = (jacobian - jacobian.T).norm() / jacobian.norm()
            assert asymmetry > 0.3 if shift else asymmetry < 1e-5


@pytest.mark.parametrize(
    ('options', 'learnt'),
    [
        (dict(gain='learnt', out_gain='none'), 'ffn.gain.weight'),
        (dict(out_gain='learnt'), 'attn.gain.weight'),
    ],
)
def test_gains_of_one_part_only(options, learnt):
    layer = build(HaLViT, **options).layers[0]
    names = [n for n, _ in layer.named_parameters() if 'gain' in n]
    assert names == [learnt]


def test_signs_cancel_the_forced_copy():
    """Of a fresh matrix: the paper's FFN copies its input, the signed one
    does not. The share of the output along the input, normalised.
    """  # noqa: D205
    x = torch.randn(1, 256, 96)
    shares = []
    for gain in ('none', 'signed'):
        torch.manual_seed(0)
        ffn = build_ffn(gain, 0, (96, 384))
        torch.nn.init.xavier_uniform_(ffn.tied.weight)
        torch.nn.init.zeros_(ffn.tied.bias)
        shares.append(F.cosine_similarity(ffn(x), x, dim=-1).mean())
    assert shares[0] > 0.5
    assert abs(shares[1]) < 0.1


@pytest.mark.parametrize('shift', [0, 5])
@pytest.mark.parametrize('gain', GAINS)
def test_prepared(gain, shift):
    model = build(HaLViT, gain=gain, hidden_shift=shift)
    model = randomise(model).eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(image)
        pack_weights(model, torch.float32)
        assert_close(model(image), expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(gain='free'), "gain='free': choose one of"),
        (dict(out_gain='free'), "gain='free': choose one of"),
        (dict(out_gain='signed'), "out_gain='signed': fixed signs are for"),
        (
            dict(gain='signed', arch=dict(ARCH, feedforward_channels=63)),
            "gain='signed': 63 units have no half",
        ),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        build(HaLViT, **options)
