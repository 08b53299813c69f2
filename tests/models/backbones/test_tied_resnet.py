"""ResNet50-PE: its counts, and a twin that shares nothing."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.models.backbones import ResNet
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from halvit_mm.apis.model_info import count_parameters
from halvit_mm.models.backbones import TiedResNet
from halvit_mm.models.backbones.tied_resnet import TiedStage
from tests.helpers import assert_one_owner, loss_of, num_params

from .untied_stage import Stage

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


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_equals_a_twin_without_sharing(mode):
    model = shake(small())
    twin = copy.deepcopy(model)
    for name in twin.res_layers:
        setattr(twin, name, Stage(getattr(model, name)))
    # All but the first stage halve the grid.
    stages = [getattr(twin, name).state for name in twin.res_layers]
    strided = ['downsample.0.weight' in state for state in stages]
    assert strided == [False, True, True, True]
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
    assert shapes == [(16, 16, 24), (32, 8, 12), (64, 4, 6), (128, 2, 3)]


def test_effective_parameters():
    model = small()
    stored, effective = count_parameters(model)
    uses = zip((16, 32, 64, 128), (3, 4, 6, 3))
    more = sum((2 * n - 1) * c * c // 4 for c, n in uses)
    assert (stored, effective) == (num_params(model), num_params(model) + more)


CHANGES = {
    'nothing': lambda model: model,
    'init_weights': lambda model: model.init_weights() or model,
    'deepcopy': copy.deepcopy,
    'load_state_dict': lambda model: (
        model.load_state_dict(small().state_dict()) and model
    ),
    'to': lambda model: model.to(torch.float64),
    'meta': lambda model: model.to('meta').to_empty(device='cpu'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_one_owner(change):
    model = small()
    changed = CHANGES[change](model)
    assert_one_owner(changed)
    names = [name for name, _ in changed.named_parameters()]
    assert names == [name for name, _ in small().named_parameters()]
    # Every block still reads the matrix that its stage owns.
    dtype = changed.layer3.weight.dtype
    loss_of(changed(torch.randn(2, 3, 64, 64, dtype=dtype))).backward()
    for name in changed.res_layers:
        assert getattr(changed, name).weight.grad is not None


def norms_of(model):
    kinds = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)
    return [m for m in model.modules() if isinstance(m, kinds)]


@pytest.mark.parametrize('tied_stages', [PE1, PE2])
@pytest.mark.parametrize(
    ('norm_cfg', 'cls'),
    [
        (dict(type='SyncBN'), nn.SyncBatchNorm),
        (dict(type='BN', momentum=0.01, eps=1e-3), nn.BatchNorm2d),
        (dict(type='GN', num_groups=2), nn.GroupNorm),
    ],
)
def test_norm_cfg(norm_cfg, cls, tied_stages):
    options = dict(stem_channels=8, base_channels=8, tied_stages=tied_stages)
    model = TiedResNet(norm_cfg=norm_cfg, **options)
    plain = TiedResNet(**options)
    norms = norms_of(model)
    assert len(norms) == len(norms_of(plain))
    assert all(isinstance(norm, cls) for norm in norms)
    for key in norm_cfg.keys() - {'type'}:
        assert {getattr(norm, key) for norm in norms} == {norm_cfg[key]}
    # Names of tied stages do not tell the norm: checkpoints keep fitting.
    names, others = (
        [n for n, _ in m.layer4.named_parameters()] for m in (model, plain)
    )
    assert names == others
    model.init_weights()
    assert not any(block.bn3.weight.any() for block in model.layer4.blocks)


def test_a_checkpoint_fits_whatever_the_norms_are():
    theirs, ours = shake(small()), small(norm_cfg=dict(type='SyncBN'))
    assert str(ours.load_state_dict(theirs.state_dict())).startswith('<All')
    image = torch.randn(1, 3, 64, 64)
    assert_close(ours.eval()(image), theirs.eval()(image), rtol=0, atol=0)


def test_frozen_norms():
    model = small(norm_cfg=dict(type='BN', requires_grad=False)).train()
    norms = {id(p) for norm in norms_of(model) for p in norm.parameters()}
    frozen = {id(p) for p in model.parameters() if not p.requires_grad}
    assert frozen == norms


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


BAD_INPUT = {
    'depth=18: choose one of 50, 101, 152': dict(depth=18),
    r'\[4\] are none of the 4 stages': dict(tied_stages=(1, 4)),
    'dilation=2: .* no dilation but 1': dict(dilations=(1, 1, 1, 2)),
    'with_cp=True: .* no with_cp but False': dict(with_cp=True),
    'avg_down=True: .* no avg_down but False': dict(avg_down=True),
    "style='caffe': .* no style but 'pytorch'": dict(style='caffe'),
    'expansion=2: .* no expansion but 4': dict(expansion=2),
    'no conv_cfg but None': dict(conv_cfg=dict(type='Conv2d')),
    r'drop_path_rate=0\..* but 0\.0': dict(drop_path_rate=0.1),
}


@pytest.mark.parametrize('message', BAD_INPUT)
def test_bad_input(message):
    with pytest.raises(ValueError, match=message):
        TiedResNet(**BAD_INPUT[message])


@pytest.mark.parametrize(
    'options',
    [
        dict(dilations=(1, 2, 1, 1)),
        dict(avg_down=True),
        dict(style='caffe'),
        dict(conv_cfg=dict(type='Conv2d')),
        dict(drop_path_rate=0.1),
    ],
)
def test_stages_that_are_not_tied_take_what_the_host_has(options):
    options = dict(stem_channels=4, base_channels=4, **options)
    model = TiedResNet(tied_stages=(), **options)
    twin = ResNet(50, **options)
    twin.load_state_dict(model.state_dict())
    model.eval(), twin.eval()
    image = torch.randn(1, 3, 64, 64)
    assert_close(model(image), twin(image), rtol=0, atol=0)


def test_what_a_later_host_may_pass():
    class Later(TiedResNet):
        def make_res_layer(self, **kwargs):
            return super().make_res_layer(plugins=[], **kwargs)

    # not swallowed
    with pytest.raises(ValueError, match=r'know no plugins=\[\]: choose from'):
        Later(tied_stages=PE1)


def test_channels_that_cannot_be_grouped():
    with pytest.raises(ValueError, match='100 channels cannot be made of 64'):
        TiedStage(64, 100, 2, 1)


@pytest.mark.parametrize('depth', [50, 101, 152])
@pytest.mark.parametrize('tied_stages', [PE1, PE2, ()])
def test_layer_depth(tied_stages, depth):
    sizes = dict(stem_channels=4, base_channels=4)
    host = ResNet(depth, **sizes)
    model = TiedResNet(depth, tied_stages, **sizes)
    for name, _ in model.named_parameters():
        parts = name.split('.')
        stage = parts[0].startswith('layer') and int(parts[0][-1]) - 1
        block = parts[1]
        if parts[0].startswith('layer') and stage in tied_stages:
            block = parts[2] if block == 'blocks' else '0'
        # The host has every block, so any name of the block's will do.
        theirs = f'backbone.{parts[0]}.{block}.conv1.weight'
        depths = model.get_layer_depth(f'backbone.{name}', 'backbone.')
        assert depths == host.get_layer_depth(theirs, 'backbone.'), name
    head = ('head.fc.weight', 'backbone.')
    assert model.get_layer_depth(*head) == host.get_layer_depth(*head)


def test_layer_wise_decay():
    """ResNet50's depths: stem 0, stages 1, 2-3, 4-5, 6, head 7."""
    backbone = dict(type='halvit_mm.TiedResNet', tied_stages=PE1)
    head = dict(type='mmpretrain.LinearClsHead', num_classes=3)
    classifier = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(backbone, stem_channels=4, base_channels=4),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(head, in_channels=128),
    )
    model = MODELS.build(classifier)
    recipe = dict(
        optimizer=dict(type='SGD', lr=1.0, weight_decay=1e-4),
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    wrapper = build_optim_wrapper(model, recipe)
    groups = wrapper.optimizer.param_groups
    rates = {group['param_name']: group['lr'] for group in groups}
    assert rates.keys() == dict(model.named_parameters()).keys()
    expected = {
        'backbone.conv1.weight': 0,
        'backbone.layer1.weight': 1,
        'backbone.layer1.blocks.2.conv.weight': 1,
        'backbone.layer2.expand.0.weight': 2,
        'backbone.layer2.blocks.3.bn3.bias': 3,
        'backbone.layer3.weight': 4,
        'backbone.layer3.downsample.2.weight': 4,
        'backbone.layer3.blocks.2.conv.weight': 4,
        'backbone.layer3.blocks.3.conv.weight': 5,
        'backbone.layer4.weight': 6,
        'head.fc.weight': 7,
    }
    found = {name: rates[name] for name in expected}
    assert found == {name: 0.5 ** (7 - d) for name, d in expected.items()}
