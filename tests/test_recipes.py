"""The recipes are those of the papers, and of the hosts elsewhere."""

import copy

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATA_SAMPLERS, init_default_scope
from torch import nn

from .configs import (
    DETECTORS,
    FOREIGN,
    RESNETS,
    VIT_DETECTORS,
    VITS,
    assert_settings,
    build_on_meta,
    built,
    flat,
    load,
    transform,
)
from .helpers import num_params

WARM_UP_AND_COSINE = {
    'param_scheduler.0.type': 'LinearLR',
    'param_scheduler.0.end': 5,
    'param_scheduler.0.by_epoch': True,
    'param_scheduler.1.type': 'CosineAnnealingLR',
    'param_scheduler.1.begin': 5,
    'param_scheduler.1.by_epoch': True,
    # Without an end of its own it lasts to the last epoch, whichever it is.
    'param_scheduler.1.end': None,
    'param_scheduler.1.T_max': None,
    'param_scheduler.2': None,
}


def assert_plain_adamw(cfg):
    """Nothing of the host's recipe beyond lr and weight decay is changed."""
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == 'AdamW'
    assert tuple(optimizer.get('betas', (0.9, 0.999))) == (0.9, 0.999)
    assert optimizer.get('eps', 1e-8) == 1e-8
    # No layer-wise decay, no rates of single parts.
    assert 'constructor' not in cfg.optim_wrapper
    options = flat(cfg.optim_wrapper.paramwise_cfg)
    assert options
    assert not [p for p in options if 'layer_decay' in p or 'lr_mult' in p]


def assert_no_dropout(backbone, drop_path):
    """Stochastic depth is all there is, rising from 0 to ``drop_path``."""
    drops = [m for m in backbone.modules() if isinstance(m, nn.Dropout)]
    assert len(drops) > len(backbone.layers)
    assert all(drop.p == 0 for drop in drops)
    assert all(layer.attn.attn_drop_rate == 0 for layer in backbone.layers)
    rates = [layer.drop_path.drop_prob for layer in backbone.layers]
    steps = [i * drop_path / (len(rates) - 1) for i in range(len(rates))]
    assert rates == pytest.approx(steps)


@pytest.mark.parametrize('name', VITS)
def test_pretraining_schedule(name):
    """HaLViT, Table 2 (600 epochs: Table 3)."""
    cfg = load(name)
    assert_plain_adamw(cfg)
    assert_settings(
        cfg,
        {
            **WARM_UP_AND_COSINE,
            # Table 2 has neither of these: they are the host's.
            'param_scheduler.0.start_factor': 1e-3,
            'param_scheduler.1.eta_min': 1e-5,
            'train_cfg.by_epoch': True,
            'train_cfg.max_epochs': 600 if '600e' in name else 300,
            'train_dataloader.batch_size': 256,  # x 4 GPUs
            'auto_scale_lr.base_batch_size': 4 * 256,
            'optim_wrapper.optimizer.lr': pytest.approx(5e-4 * 1024 / 512),
            'optim_wrapper.optimizer.weight_decay': 0.05,
            'optim_wrapper.clip_grad': None,
        },
    )


@pytest.mark.parametrize('name', VITS)
def test_pretraining_regularisation(name):
    """HaLViT, Table 2; the alphas are DeiT's."""
    cfg = load(name)
    pipeline = cfg.train_dataloader.dataset.pipeline
    augment = transform(pipeline, 'RandAugment')
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    assert transform(pipeline, 'RandomErasing').erase_prob == 0.25
    assert transform(pipeline, 'RandomResizedCrop').scale == 224
    hooks = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    assert 'EMAHook' not in hooks
    model = built(name)
    assert model.head.loss_module.label_smooth_val == 0.1
    mixes = model.data_preprocessor.batch_augments.augments
    alphas = {type(mix).__name__: mix.alpha for mix in mixes}
    assert alphas == dict(Mixup=0.8, CutMix=1.0)
    assert_no_dropout(model.backbone, drop_path=0.1)


@pytest.mark.parametrize('name', VITS)
def test_pretraining_repeats_augmentation(name):
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    sampler = DATA_SAMPLERS.build(
        dict(cfg.train_dataloader.sampler, dataset=range(600))
    )
    assert type(sampler).__name__ == 'RepeatAugSampler'
    assert sampler.shuffle
    assert sampler.num_repeats == 3
    assert len(set(sampler)) < len(list(sampler))


OURS = [name for name in DETECTORS if name not in FOREIGN]
OUR_VITS = [name for name in VIT_DETECTORS if name not in FOREIGN]


@pytest.mark.parametrize('name', OURS)
def test_detection_schedule_and_data(name):
    """mmdet's 2x (HaLViT, Sec. 4.2); ResNet50-PE too, by our choice."""
    cfg = load(name)
    assert_settings(
        cfg,
        {
            'train_cfg.type': 'EpochBasedTrainLoop',
            'train_cfg.max_epochs': 24,
            'param_scheduler.0.type': 'LinearLR',
            'param_scheduler.0.end': 500,
            'param_scheduler.0.by_epoch': False,
            'param_scheduler.0.start_factor': 1e-3,
            'param_scheduler.1.type': 'MultiStepLR',
            'param_scheduler.1.milestones': [16, 22],
            'param_scheduler.1.by_epoch': True,
            'param_scheduler.1.end': 24,
            'param_scheduler.1.gamma': 0.1,
            'param_scheduler.2': None,
            'train_dataloader.batch_size': 2,
            'train_dataloader.sampler.type': 'DefaultSampler',
            'train_dataloader.sampler.shuffle': True,
            'train_dataloader.dataset.filter_cfg.filter_empty_gt': True,
            'model.data_preprocessor.pad_size_divisor': 32,
            'model.backbone.init_cfg.type': 'Pretrained',
            'optim_wrapper.clip_grad': None,
        },
    )
    train = cfg.train_dataloader.dataset.pipeline
    tests = cfg.test_dataloader.dataset.pipeline
    for pipeline in (train, tests):
        resize = transform(pipeline, 'Resize')
        assert (resize.scale, resize.keep_ratio) == ((1333, 800), True)
    flips = [t for t in (*train, *tests) if t['type'] == 'RandomFlip']
    assert flips == [dict(type='RandomFlip', prob=0.5)]


@pytest.mark.parametrize('name', OUR_VITS)
def test_detection_recipe(name):
    """HaLViT, Sec. 4.2, and what we chose where it is silent."""
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(type='AdamW', lr=0.5e-4, weight_decay=0.05)
    assert_plain_adamw(cfg)
    assert cfg.auto_scale_lr.base_batch_size == 4 * 2  # 4 GPUs
    backbone = built(name).backbone
    assert_no_dropout(backbone, drop_path=0.1)
    assert backbone.frozen_stages < 1 and not backbone.with_cp
    assert all(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize('name', FOREIGN)
def test_recipe_of_vitdet(name):
    """ViTDet, App. A.2, of a ViT-B; batch, epochs and jitter are its own."""
    cfg = load(name)
    assert_settings(
        cfg,
        {
            'train_cfg.max_epochs': 100,
            'param_scheduler.0.end': 250,
            'param_scheduler.1.milestones': [89, 96],
            'optim_wrapper.type': 'halvit_mm.BFloat16OptimWrapper',
            'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.7,
            'auto_scale_lr.base_batch_size': 64,
        },
    )
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(type='AdamW', lr=1e-4, weight_decay=0.1)
    train = cfg.train_dataloader.dataset.pipeline
    assert transform(train, 'RandomResize').ratio_range == (0.1, 2.0)
    assert transform(train, 'RandomCrop').crop_size == (1024, 1024)
    model = built(name)
    assert_no_dropout(model.backbone, drop_path=0.1)
    windows = [layer.attn.window_size for layer in model.backbone.layers]
    assert windows == [14, 14, 0] * 4
    grid = 14 if name.endswith('mae') else 37  # of the files
    assert model.backbone.patch_resolution == (grid, grid)
    # which the command for the file writes
    init_cfg = cfg.model.backbone.init_cfg
    folder = init_cfg.checkpoint.removesuffix('/model.safetensors')
    assert f"save_pretrained('{folder}')" in init_cfg.made_by
    assert f"/{folder.split('/')[1]}')" in init_cfg.made_by


def test_resnet_detection_recipe():
    """mmdet's R50-FPN, the backbone apart."""
    cfg = load('maskrcnn_resnet50_pe')
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4
    )
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    assert cfg.auto_scale_lr.base_batch_size == 8 * 2  # 8 GPUs
    model = built('maskrcnn_resnet50_pe')
    backbone = model.backbone
    assert num_params(backbone) == 13_466_176  # HaLViT, Table 4
    assert backbone.out_indices == (0, 1, 2, 3)
    assert (backbone.frozen_stages, backbone.norm_eval) == (1, True)
    assert backbone.norm_cfg == dict(type='BN', requires_grad=True)
    assert type(model.neck).__name__ == 'FPN'
    assert model.neck.in_channels == [256, 512, 1024, 2048]


@pytest.mark.parametrize(
    'name', [n for n in RESNETS if n.startswith('pretrain/')]
)
def test_resnet_recipe(name):
    """HaLViT, Sec. 4.1; epochs, batch, momentum: torchvision's."""
    cfg = load(name)
    optimizer = dict(cfg.optim_wrapper.optimizer)
    optimizer.pop('_scope_', None)
    assert optimizer == dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    expected = {
        **WARM_UP_AND_COSINE,
        'train_cfg.max_epochs': 90,
        'auto_scale_lr.base_batch_size': 256,
        'train_dataloader.batch_size': 32,  # x 8 GPUs
    }
    assert_settings(cfg, expected)
    train = cfg.train_dataloader.dataset.pipeline
    assert transform(train, 'RandomResizedCrop').scale == 224
    assert transform(train, 'RandomFlip').prob == 0.5
    for split in ('val', 'test'):
        pipeline = cfg[f'{split}_dataloader'].dataset.pipeline
        assert transform(pipeline, 'ResizeEdge').scale == 248
        assert transform(pipeline, 'CenterCrop').crop_size == 224


def optimizer_and_decays(cfg):
    """The model, its optimiser, each parameter's name -> its decay."""
    model = build_on_meta(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {id(p): n for n, p in model.named_parameters()}
    decays = {
        names[id(p)]: group['weight_decay']
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert decays.keys() == dict(model.named_parameters()).keys()
    return model, optimizer, decays


@pytest.mark.parametrize(
    ('name', 'with_cls_token'),
    [
        *((name, True) for name in VITS),
        *((name, False) for name in OUR_VITS),
        ('pretrain/halvit_t_in1k', False),
        ('maskrcnn_halvit_t', True),
    ],
)
def test_weight_decay_spares_norms_biases_and_embeddings(name, with_cls_token):
    options = {'model.backbone.with_cls_token': with_cls_token}
    if not with_cls_token and name.startswith('pretrain/'):
        options['model.backbone.out_type'] = 'avg_featmap'
    cfg = copy.deepcopy(load(name))
    cfg.merge_from_dict(options)
    model, optimizer, decays = optimizer_and_decays(cfg)
    spared = {n for n, decay in decays.items() if decay == 0}
    assert set(decays.values()) == {0, 0.05}
    # Matrices and kernels have more than one axis, norms and biases one.
    vectors = {n for n, p in model.named_parameters() if p.dim() == 1}
    embeddings = {'backbone.pos_embed'}
    if with_cls_token:
        embeddings.add('backbone.cls_token')
    assert spared == vectors | embeddings
    lr = cfg.optim_wrapper.optimizer.lr
    groups = optimizer.param_groups
    assert {(group['lr'], group['betas']) for group in groups} == {
        (lr, (0.9, 0.999))
    }


@pytest.mark.parametrize('name', RESNETS)
def test_resnets_decay_everything(name):
    """As torchvision and mmdet do."""
    _, _, decays = optimizer_and_decays(load(name))
    assert set(decays.values()) == {1e-4}
