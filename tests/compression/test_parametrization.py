"""Factorised weights: one owner, identity kept, nothing stale."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from halvit_mm.compression import FiPSConfig, convert, factors, prepare
from halvit_mm.compression.parametrization import materialize
from halvit_mm.models.layers import TiedFFN
from tests.helpers import assert_one_owner

from .models import BLOCKS, GROUPS, HIDDEN, D, Net, tokens


def full_rank(model, **options):
    """Nothing pruned and rank d: exact."""
    options = {'rank': D, **options}
    prepare(model, FiPSConfig(GROUPS, sparsity=0.0, **options))
    return model


@pytest.mark.parametrize('scaled', [False, True])
@pytest.mark.parametrize('rank', [D, D + 5])
def test_full_rank_reproduces_the_model(rank, scaled):
    model = Net().eval()
    expected = model(tokens())
    full_rank(model, rank=rank, scaled=scaled)
    assert len(list(factors(model))) == 2 * BLOCKS
    assert_close(model(tokens()), expected, atol=1e-5, rtol=1e-5)
    assert materialize(model) == 2 * BLOCKS
    assert all(p.is_contiguous() for p in model.parameters())
    assert model.state_dict().keys() == Net().state_dict().keys()
    assert_close(model(tokens()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('change', ['mask', 'base', 'factor', 'scale'])
@torch.no_grad()
def test_a_kept_product_notices_changes_in_place(change):
    model = full_rank(Net(), scaled=True).eval()
    before = model(tokens())
    factor = next(factors(model))
    {
        'mask': lambda: factor.weight.mask.fill_(False),
        'base': lambda: factor.weight.base.weight.zero_(),
        'factor': lambda: factor.factor.zero_(),
        'scale': lambda: factor.weight.scale.zero_(),
    }[change]()
    assert not torch.equal(model(tokens()), before)


@torch.no_grad()
def test_a_product_that_autocast_saw_serves_without_it():
    model = full_rank(Net()).eval()
    expected = model(tokens())
    model = full_rank(Net()).eval()
    with torch.autocast('cpu', torch.bfloat16):
        model(tokens())
    assert_close(model(tokens()), expected)


def test_16_bit_weights_have_16_bit_scales():
    model = Net().bfloat16()
    prepare(model, FiPSConfig(GROUPS, sparsity=0.5, scaled=True))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    model(tokens().bfloat16()).sum().backward()


def test_groups_are_factorised_at_once():
    model = Net()
    prepare(model, FiPSConfig(GROUPS[:1]))
    with pytest.raises(ValueError, match='has a base group0 already'):
        prepare(model, FiPSConfig(GROUPS[1:]))


@torch.no_grad()
def test_low_rank_in_a_module_that_reads_the_weight():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.mha = nn.MultiheadAttention(D, 2, batch_first=True)

        def forward(self, x):
            return self.mha(x, x, x, need_weights=False)[0]

    model = Attention().train()  # else a fused kernel takes the tensors
    expected = model(tokens())
    square = {r'.*out_proj': 'out'}
    group = r'mha\.out_proj'
    prepare(model, FiPSConfig(group, sparsity=0.0, square=square, rank=D))
    convert(model, 'low_rank')
    assert_close(model(tokens()), expected, atol=1e-5, rtol=1e-5)


CHANGES = {
    'nothing': lambda m: m,
    'deepcopy': copy.deepcopy,
    'load_state_dict': lambda m: (
        m.load_state_dict({k: 1.5 * v for k, v in m.state_dict().items()})
        and m
    ),
    'to': lambda m: m.double(),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_base_has_one_owner_and_is_the_one_that_is_used(change):
    model = full_rank(Net())
    with torch.no_grad():
        model.eval()(tokens())  # products are kept
    model = CHANGES[change](model)
    assert_one_owner(model)
    bases = list(model.shared_bases.values())
    assert len(bases) == 2
    used = {id(f.weight.base) for f in factors(model)}
    assert used == {id(base) for base in bases}
    for factor in factors(model):
        with torch.no_grad():
            weight = factor.module.weight
        product = factor.weight.base.weight @ (
            factor.factor * factor.weight.mask
        )
        product = product.T if factor.weight.transposed else product
        assert_close(weight, product)


def test_gradients_are_those_of_the_dense_weight():
    model, dense = full_rank(Net()), Net()
    for factor in factors(model):
        factor.weight.mask[::2, ::3] = False
    state = dense.state_dict()
    for factor in factors(model):
        state[f'{factor.name}.weight'] = factor.module.weight.detach().clone()
    dense.load_state_dict(state)
    model(tokens()).square().sum().backward()
    dense(tokens()).square().sum().backward()
    modules = dict(dense.named_modules())
    sums = {}
    for factor in factors(model):
        gradient = modules[factor.name].weight.grad
        if factor.weight.transposed:
            gradient = gradient.T
        base, v = factor.weight.base.weight, factor.factor
        expected = base.T @ gradient * factor.weight.mask
        assert_close(v.grad, expected, atol=1e-4, rtol=1e-4)
        part = gradient @ (v * factor.weight.mask).T
        sums[id(base)] = sums.get(id(base), 0) + part
    for base in model.shared_bases.values():
        grad = base.weight.grad
        assert_close(grad, sums[id(base.weight)], atol=1e-4, rtol=1e-4)


def test_products_are_kept_in_eval_mode_only_and_never_stale():
    model = full_rank(Net())
    factor = next(factors(model))
    model.eval()
    with torch.no_grad():
        assert factor.module.weight is factor.module.weight
    assert factor.module.weight.requires_grad
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(tokens()).sum().backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        weight = factor.module.weight
    expected = factor.weight.base.weight @ factor.factor
    assert_close(weight, expected.T)


def test_a_tied_matrix_serves_both_uses_by_one_factorisation():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.ffn = TiedFFN(D, HIDDEN)

        def forward(self, x):
            return self.ffn(x)

    model = Tied().eval()
    expected = model(tokens())
    prepare(model, FiPSConfig('ffn', rank=D, sparsity=0.0))
    (factor,) = factors(model)
    assert_close(model(tokens()), expected, atol=1e-5, rtol=1e-5)
    model(tokens()).sum().backward()
    assert factor.factor.grad.abs().sum() > 0
    with pytest.raises(ValueError, match='uses its weight twice'):
        convert(model, 'low_rank')


@pytest.mark.parametrize('scaled', [False, True])
def test_low_rank_execution(scaled):
    model = Net().eval()
    prepare(model, FiPSConfig(GROUPS, sparsity=0.5, scaled=scaled))
    for factor in factors(model):
        factor.weight.mask[::2, ::3] = False
    expected = model(tokens())
    assert convert(model, 'low_rank') == 2 * BLOCKS
    assert_one_owner(model)
    assert_close(model(tokens()), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="execution='sparse': choose"):
        convert(model, 'sparse')
