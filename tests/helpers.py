"""Small models and the checks that several tests make."""

import torch
from torch import nn
from torch.testing import assert_close

ARCH = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)
#: What a detector needs of a backbone.
DETECTION = dict(out_type='featmap', with_cls_token=False)


def build(cls, **kwargs):
    """A backbone for images of 32 x 32 pixels, a grid of 4 x 4 tokens."""
    return cls(**{'arch': ARCH, 'img_size': 32, 'patch_size': 8, **kwargs})


@torch.no_grad()
def randomise(module):
    """Move every parameter from where it starts: a zero would hide errors."""
    for name, param in module.named_parameters():
        is_norm_weight = param.ndim == 1 and name.endswith('weight')
        param.normal_(mean=float(is_norm_weight), std=0.2)
    return module


def loss_of(outs):
    """A weighted sum, for a plain one is constant behind a LayerNorm."""
    generator = torch.Generator().manual_seed(1)
    return sum(
        (out * torch.randn(out.shape, generator=generator)).sum()
        for out in outs
    )


def gradients(module):
    """Name -> gradient, or None, of what is trained."""
    return {
        name: param.grad
        for name, param in module.named_parameters()
        if param.requires_grad
    }


def num_params(module):
    return sum(param.numel() for param in module.parameters())


def assert_same_state(module, other):
    """Two modules hold the same numbers under the same names."""
    assert_close(module.state_dict(), other.state_dict(), rtol=0, atol=0)


def assert_one_owner(module: nn.Module):
    """No parameter and no stored tensor occurs under two names."""
    params = dict(module.named_parameters(remove_duplicate=False))
    assert len({id(param) for param in params.values()}) == len(params)
    stored = module.state_dict()
    assert len({t.data_ptr() for t in stored.values()}) == len(stored)
    assert set(params) <= set(stored)
