"""ResNet50-PE: its counts, and a twin that shares nothing."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import ResNet
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from halvit_mm.apis.model_info import count_parameters
from halvit_mm.models.backbones import TiedResNet
from halvit_mm.models.backbones.tied_resnet import TiedStage
from tests.helpers import assert_one_owner, loss_of, num_params

PE1, PE2 = (0, 1, 2, 3), (2, 3)


def small(**kwargs):
    """4 channels instead of 64."""
    options = dict(stem_channels=4, base_channels=4, **kwargs)
    return TiedResNet(tied_stages=PE1, **options)


def shake(model):
    """Random statistics and weights of norms: zeros would hide errors."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize(
    ('tied_stages', 'params', 'macs'),
    [
        (PE2, 13_466_176, 4_095_264_768),
        (PE1, 12_833_152, 4_098_676_736),
        ((), 23_508_032, None),
    ],
)
def test_counts(tied_stages, params, macs):
    model = TiedResNet(tied_stages=tied_stages).eval()
    assert num_params(model) == params
    if macs is None:
        assert params == num_params(ResNet(50))
        return
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() == 2 * macs


class Block(nn.Module):
    """A bottleneck with two 1x1 convolutions of its own."""

    def __init__(self, block, weight):
        super().__init__()
        block = copy.deepcopy(block)
        mid, channels = weight.shape
        self.reduce = nn.Conv2d(channels, mid, 1, bias=False)
        self.expand = nn.Conv2d(mid, channels, 1, bias=False)
        self.reduce.weight.data.copy_(weight[..., None, None])
        self.expand.weight.data.copy_(weight.t()[..., None, None])
        self.inner = nn.Sequential(
            block.bn1, nn.ReLU(), block.conv, block.bn2, nn.ReLU()
        )
        self.norm = block.bn3

    def forward(self, x, identity):
        y = self.norm(self.expand(self.inner(self.reduce(x))))
        return F.relu(y + identity)


class Stage(nn.Module):
    """The stage with copies of the matrix in every block."""

    def __init__(self, stage):
        super().__init__()
        self.expand = copy.deepcopy(stage.expand)
        self.downsample = copy.deepcopy(stage.downsample)
        weight = stage.weight.detach()
        self.blocks = nn.ModuleList(Block(b, weight) for b in stage.blocks)

    def forward(self, x):
        x = torch.cat([self.expand(x), x], dim=1)
        first, *others = self.blocks
        x = first(x, self.downsample(x) if self.downsample else x)
        for block in others:
            x = block(x, x)
        return x


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_equals_a_twin_without_sharing(mode):
    model = shake(small())
    twin = copy.deepcopy(model)
    for name in twin.res_layers:
        setattr(twin, name, Stage(getattr(model, name)))
    model.train(mode == 'train'), twin.train(mode == 'train')
    image = torch.randn(2, 3, 64, 64)
    actual, expected = model(image), twin(image)
    assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    loss_of(actual).backward()
    loss_of(expected).backward()
    for name in model.res_layers:
        total = sum(
            block.reduce.weight.grad[..., 0, 0]
            + block.expand.weight.grad[..., 0, 0].t()
            for block in getattr(twin, name).blocks
        )
        grad = getattr(model, name).weight.grad
        assert_close(grad, total, atol=1e-3, rtol=1e-3)


def test_out_indices_and_strides():
    maps = small(out_indices=(0, 1, 2, 3)).eval()(torch.randn(1, 3, 64, 96))
    shapes = [tuple(m.shape[1:]) for m in maps]
    assert shapes == [
        (16, 16, 24),
        (32, 8, 12),
        (64, 4, 6),
        (128, 2, 3),
    ]


def test_one_owner_and_effective_parameters():
    model = small()
    for changed in (model, copy.deepcopy(model)):
        assert_one_owner(changed)
    stored, effective = count_parameters(model)
    uses = zip((16, 32, 64, 128), (3, 4, 6, 3))
    more = sum((2 * n - 1) * c * c // 4 for c, n in uses)
    assert (stored, effective) == (num_params(model), num_params(model) + more)


def test_start():
    model = TiedResNet()
    model.init_weights()
    for stage in (model.layer3, model.layer4):
        std = (2 / sum(stage.weight.shape)) ** 0.5  # Xavier normal
        assert stage.weight.std().item() == pytest.approx(std, rel=0.02)
        assert not any(block.bn3.weight.any() for block in stage.blocks)
    model = TiedResNet(zero_init_residual=False)
    model.init_weights()
    assert all(block.bn3.weight.all() for block in model.layer4.blocks)


def test_frozen_stages():
    model = small(frozen_stages=2, norm_eval=True).train()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    expected = ('conv1', 'bn1', 'layer1.', 'layer2.')
    names = {n for n, _ in model.named_parameters() if n.startswith(expected)}
    assert frozen == names
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(depth=18), 'depth=18: choose one of 50, 101, 152'),
        (dict(tied_stages=(1, 4)), r'\[4\] are none of the 4 stages'),
        (dict(dilations=(1, 1, 1, 2)), 'no dilation'),
        (dict(with_cp=True), 'no with_cp'),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        TiedResNet(**options)


def test_channels_that_cannot_be_grouped():
    with pytest.raises(ValueError, match='100 channels cannot be made of 64'):
        TiedStage(64, 100, 2, 1)
