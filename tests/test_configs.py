"""Every config builds, and the recipes are those of the papers."""

import copy
from functools import cache

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATA_SAMPLERS, init_default_scope
from study.plan import Study
from torch import nn

from halvit_mm.apis import load_config
from halvit_mm.apis.fake_data import image_size
from halvit_mm.apis.model_info import build_model, count_parameters
from halvit_mm.compression import FiPSConfig, plan_compression

from .helpers import num_params
from .tools.conftest import ROOT

CONFIGS = ROOT / 'configs'
NAMES = sorted(
    str(path.relative_to(CONFIGS).with_suffix(''))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
)
#: Builds from a file that tools/compress.py makes: tests/models/wrappers.
COMPRESSED = 'fips/maskrcnn_halvit_t_fips'
NAMES.remove(COMPRESSED)
DETECTORS = [name for name in NAMES if name.startswith('maskrcnn_')]
PRETRAINING = [name for name in NAMES if name.startswith('pretrain/')]
TRANSFER = [name for name in NAMES if name.startswith('transfer/')]
RESNETS = [name for name in NAMES if 'resnet' in name]
VITS = [name for name in PRETRAINING if name not in RESNETS]
VIT_DETECTORS = [name for name in DETECTORS if name not in RESNETS]


@cache
def _load(name):
    # Names of classes may have to be read from data that are not here.
    return load_config(str(CONFIGS / f'{name}.py'), read_data=False)


def load(name):
    # A classifier writes into its config as it is built.
    return copy.deepcopy(_load(name))


def flat(node, path=''):
    """A nested config as one dict: path -> leaf."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return {path: node}
    leaves = {}
    for key, child in items:
        leaves.update(flat(child, f'{path}.{key}' if path else str(key)))
    return leaves


def differences(name, other):
    """Paths at which two configs differ, sorted."""
    one, two = (
        flat({k: v for k, v in load(n).items() if k != 'work_dir'})
        for n in (name, other)
    )
    return sorted(
        path
        for path in one.keys() | two.keys()
        if one.get(path, '-') != two.get(path, '-')
    )


def transform(pipeline, kind):
    (found,) = (t for t in pipeline if t['type'] == kind)
    return found


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


def test_no_config_is_forgotten():
    assert len(DETECTORS) >= 11
    assert len(PRETRAINING) >= 14
    assert len(TRANSFER) >= 14
    assert len(RESNETS) >= 4
    assert {'demo/halvit_shapes', 'demo/maskrcnn_halvit_shapes'} < set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_config_builds(name):
    cfg = load(name)
    assert cfg.custom_imports.imports == ['halvit_mm']
    assert cfg.custom_imports.allow_failed_imports is False
    model = build_model(cfg)
    kind = cfg.model.backbone.type.removeprefix('halvit_mm.')
    assert type(model.backbone).__name__ == kind
    assert count_parameters(model.backbone)[0] > 0


@pytest.mark.parametrize('name', NAMES)
def test_image_size_of_the_reports(name):
    """What `model_info` assumes where it is told no size."""
    cfg = load(name)
    size = image_size(cfg)
    if name in DETECTORS:  # 1333 and 800, padded to multiples of 32
        assert size == (800, 1344)
    elif name in PRETRAINING + TRANSFER:
        assert size == (224, 224)
    patch = cfg.model.backbone.get('patch_size', 1)
    assert all(side > 0 and side % patch == 0 for side in size)


@pytest.mark.parametrize(
    ('name', 'tied', 'embed_dims', 'drop_path'),
    [
        ('pretrain/halvit_t_in1k', True, 384, 0.1),
        ('pretrain/halvit_t_600e_in1k', True, 384, 0.1),
        ('pretrain/halvit_m_in1k', True, 768, 0.1),
        ('pretrain/vit_s_in1k', False, 384, 0.1),
        ('pretrain/vit_b_in1k', False, 768, 0.1),
        ('maskrcnn_halvit_t', True, 384, 0.1),
        ('maskrcnn_halvit_m', True, 768, 0.1),
        ('maskrcnn_halvit_m_window', True, 768, 0.1),
        ('maskrcnn_vit_s', False, 384, 0.1),
        ('maskrcnn_vit_b', False, 768, 0.1),
    ],
)
def test_backbones(name, tied, embed_dims, drop_path):
    backbone = build_model(load(name)).backbone
    stored, effective = count_parameters(backbone)
    assert (stored < effective) == tied
    assert backbone.embed_dims == embed_dims
    assert len(backbone.layers) == 12
    assert backbone.layers[0].drop_path.drop_prob == 0
    last = backbone.layers[-1].drop_path.drop_prob
    assert last == pytest.approx(drop_path)


@pytest.mark.parametrize('name', VITS)
def test_pretraining_schedule(name):
    """HaLViT, Table 2 (600 epochs: Table 3)."""
    cfg = load(name)
    epochs = 600 if '600e' in name else 300
    assert cfg.train_cfg.by_epoch
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.batch_size == 256  # x 4 GPUs
    assert cfg.auto_scale_lr.base_batch_size == 4 * 256
    wrapper = cfg.optim_wrapper
    assert_plain_adamw(cfg)
    assert wrapper.optimizer.lr == pytest.approx(5e-4 * 1024 / 512)
    assert wrapper.optimizer.weight_decay == 0.05
    assert wrapper.get('clip_grad') is None
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.type, warm_up.end) == ('LinearLR', 5)
    assert (cosine.type, cosine.begin) == ('CosineAnnealingLR', 5)
    # Table 2 has neither of these: they are the host's.
    assert (warm_up.start_factor, cosine.eta_min) == (1e-3, 1e-5)
    # Without an end of its own it lasts to the last epoch, whichever it is.
    assert not {'end', 'T_max'} & set(cosine)
    assert warm_up.by_epoch and cosine.by_epoch


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
    model = build_model(cfg)
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


@pytest.mark.parametrize('name', DETECTORS)
def test_detection_schedule_and_data(name):
    """mmdet's 2x (HaLViT, Sec. 4.2); ResNet50-PE too, by our choice."""
    cfg = load(name)
    assert cfg.train_cfg.type == 'EpochBasedTrainLoop'
    assert cfg.train_cfg.max_epochs == 24
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.type, warm_up.end) == ('LinearLR', 500)
    assert (warm_up.by_epoch, warm_up.start_factor) == (False, 1e-3)
    assert (steps.type, steps.milestones) == ('MultiStepLR', [16, 22])
    assert (steps.by_epoch, steps.end, steps.gamma) == (True, 24, 0.1)
    loader = cfg.train_dataloader
    assert loader.batch_size == 2
    assert (loader.sampler.type, loader.sampler.shuffle) == (
        'DefaultSampler',
        True,
    )
    assert loader.dataset.filter_cfg.filter_empty_gt is True
    train = loader.dataset.pipeline
    tests = cfg.test_dataloader.dataset.pipeline
    for pipeline in (train, tests):
        resize = transform(pipeline, 'Resize')
        assert (resize.scale, resize.keep_ratio) == ((1333, 800), True)
    flips = [t for t in (*train, *tests) if t['type'] == 'RandomFlip']
    assert flips == [dict(type='RandomFlip', prob=0.5)]
    assert cfg.model.data_preprocessor.pad_size_divisor == 32
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'
    assert cfg.optim_wrapper.get('clip_grad') is None


@pytest.mark.parametrize('name', VIT_DETECTORS)
def test_detection_recipe(name):
    """HaLViT, Sec. 4.2, and what we chose where it is silent."""
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(type='AdamW', lr=0.5e-4, weight_decay=0.05)
    assert_plain_adamw(cfg)
    assert cfg.auto_scale_lr.base_batch_size == 4 * 2  # 4 GPUs
    backbone = build_model(cfg).backbone
    assert_no_dropout(backbone, drop_path=0.1)
    assert backbone.frozen_stages < 1 and not backbone.with_cp
    assert all(p.requires_grad for p in backbone.parameters())


def test_resnet_detection_recipe():
    """mmdet's R50-FPN, the backbone apart."""
    cfg = load('maskrcnn_resnet50_pe')
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4
    )
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    assert cfg.auto_scale_lr.base_batch_size == 8 * 2  # 8 GPUs
    model = build_model(cfg)
    backbone = model.backbone
    assert num_params(backbone) == 13_466_176  # HaLViT, Table 4
    assert backbone.out_indices == (0, 1, 2, 3)
    assert (backbone.frozen_stages, backbone.norm_eval) == (1, True)
    assert backbone.norm_cfg == dict(type='BN', requires_grad=True)
    assert type(model.neck).__name__ == 'FPN'
    assert model.neck.in_channels == [256, 512, 1024, 2048]


def test_resnet_detector_differs_from_the_hosts_in_the_backbone():
    base = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py'
    host = Config.fromstring(f'_base_ = {base!r}', '.py')
    ours = load('maskrcnn_resnet50_pe')
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        one, two = flat(ours[key]), flat(host[key])
        paths = one.keys() | two.keys()
        found = {p for p in paths if one.get(p, '-') != two.get(p, '-')}
        assert all(path.startswith('backbone.') for path in found), key
        assert bool(found) == (key == 'model')


@pytest.mark.parametrize('name', DETECTORS)
def test_broken_images_are_skipped_in_training_only(name):
    cfg = load(name)
    for split, scope in (('train', 'halvit_mm.'), ('val', ''), ('test', '')):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.type == 'halvit_mm.CocoDataset'
        # in evaluation the host's, which `DetInferencer` looks for by name
        loading = transform(dataset.pipeline, f'{scope}LoadImageFromFile')
        assert loading.get('max_broken', 0) == (10 if scope else 0)


BASES = dict(  # detector -> its base and the options of the backbone
    halvit_t_signed=('halvit_t', ['gain']),
    vit_s=('halvit_t', ['type']),
    halvit_m=('halvit_t', ['arch']),
    halvit_m_signed=('halvit_m', ['gain']),
    halvit_m_shared=('halvit_m', ['type']),
    halvit_m_window=(
        'halvit_m',
        [*(f'window_block_indexes.{i}' for i in range(8)), 'window_size'],
    ),
    vit_b=('halvit_m', ['type']),
    vit_b_groupedmlp=('vit_b', ['group_size', 'type']),
    vit_b_shallowmlp=('vit_b', ['arch']),
)


def test_no_detector_is_forgotten():
    names = {f'maskrcnn_{name}' for name in BASES}
    assert names | {'maskrcnn_halvit_t'} == set(VIT_DETECTORS)


@pytest.mark.parametrize('name', BASES)
def test_detectors_differ_only_in_the_backbone(name):
    base, options = BASES[name]
    expected = {f'model.backbone.{option}' for option in options}
    if name != 'halvit_m_window':  # which takes the weights of HaLViT-M
        expected.add('model.backbone.init_cfg.checkpoint')
        expected.add('model.backbone.init_cfg.made_by')
    if name == 'halvit_m':  # wider, so that the neck's input is as well
        expected.add('model.neck.in_channels')
    found = differences(f'maskrcnn_{name}', f'maskrcnn_{base}')
    assert found == sorted(expected)


def test_windows():
    """ViTDet-B: a global layer at the end of each quarter."""
    backbone = build_model(load('maskrcnn_halvit_m_window')).backbone
    sizes = [layer.attn.window_size for layer in backbone.layers]
    assert sizes == [14, 14, 0] * 4


@pytest.mark.parametrize(
    ('tied', 'untied'),
    [
        ('pretrain/halvit_t_in1k', 'pretrain/vit_s_in1k'),
        ('pretrain/halvit_m_in1k', 'pretrain/vit_b_in1k'),
        ('pretrain/halvit_m_in1k', 'pretrain/halvit_m_shared_in1k'),
    ],
)
def test_pretraining_baseline_differs_only_in_the_backbone(tied, untied):
    assert differences(tied, untied) == ['model.backbone.type']


@pytest.mark.parametrize(
    ('name', 'base', 'options'),
    [
        ('halvit_t_signed_in1k', 'halvit_t_in1k', ['gain']),
        ('halvit_m_signed_in1k', 'halvit_m_in1k', ['gain']),
        ('vit_pe_in1k', 'halvit_m_in1k', []),
        ('vit_b_groupedmlp_in1k', 'vit_b_in1k', ['group_size', 'type']),
        ('vit_b_shallowmlp_in1k', 'vit_b_in1k', ['arch']),
        ('resnet50_pe1_in1k', 'resnet50_pe2_in1k', None),
        ('resnet50_pe2_in1k', 'resnet50_in1k', None),
    ],
)
def test_siblings_differ_only_in_the_backbone(name, base, options):
    found = differences(f'pretrain/{name}', f'pretrain/{base}')
    prefix = 'model.backbone.'
    if options is None:
        assert found and all(path.startswith(prefix) for path in found)
    else:
        assert found == [prefix + option for option in options]


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
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.type, warm_up.end) == ('LinearLR', 5)
    assert (cosine.type, cosine.begin) == ('CosineAnnealingLR', 5)
    assert cfg.train_cfg.max_epochs == 90
    assert cfg.auto_scale_lr.base_batch_size == 256
    assert cfg.train_dataloader.batch_size == 32  # x 8 GPUs
    train = cfg.train_dataloader.dataset.pipeline
    assert transform(train, 'RandomResizedCrop').scale == 224
    assert transform(train, 'RandomFlip').prob == 0.5
    for split in ('val', 'test'):
        pipeline = cfg[f'{split}_dataloader'].dataset.pipeline
        assert transform(pipeline, 'ResizeEdge').scale == 248
        assert transform(pipeline, 'CenterCrop').crop_size == 224


CLASSES = dict(  # HaLViT, Table 6; Pets has 37
    cifar10=10,
    cifar100=100,
    flowers102=102,
    cars=196,
    pets=37,
    inat2018=8142,
    inat2019=1010,
)


@pytest.mark.parametrize('name', TRANSFER)
def test_transfer(name):
    cfg = load(name)
    arch, data = name.removeprefix('transfer/halvit_').split('_')
    classes = CLASSES[data]
    assert cfg.model.head.num_classes == classes
    assert cfg.data_preprocessor.num_classes == classes
    assert cfg.data_preprocessor.to_rgb == (not data.startswith('cifar'))
    assert cfg.model.backbone.init_cfg.checkpoint == (
        f'work_dirs/halvit_{arch}_in1k/epoch_300.pth'
    )
    assert (ROOT / cfg.model.backbone.init_cfg.made_by.split()[1]).is_file()
    dims = dict(t=384, m=768)[arch]
    model = build_model(cfg)
    assert model.head.layers.head.weight.shape == (classes, dims)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert data[:4].lower() in dataset.data_root.replace('_', '')
        assert dataset.pipeline[-1].type == 'PackInputs'
    assert cfg.train_dataloader.dataset.split != (
        cfg.test_dataloader.dataset.split
    )


@pytest.mark.parametrize('name', DETECTORS)
def test_pretrained_weights_come_from_our_own_config(name):
    """The file that a config asks for is the one its command writes."""
    init_cfg = load(name).model.backbone.init_cfg
    tool, path, _ = init_cfg.made_by.split()
    assert (ROOT / tool).is_file()
    recipe = load(path.removeprefix('configs/').removesuffix('.py'))
    epochs = recipe.train_cfg.max_epochs
    assert init_cfg.checkpoint == f'{recipe.work_dir}/epoch_{epochs}.pth'
    backbone, own = recipe.model.backbone, load(name).model.backbone
    for key in ('type', 'arch', 'gain', 'group_size', 'tied_stages'):
        assert backbone.get(key) == own.get(key)


def optimizer_and_decays(cfg):
    """The optimiser, and each parameter's name -> its weight decay."""
    model = build_model(cfg)
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
        *((name, False) for name in VIT_DETECTORS),
        ('pretrain/halvit_t_in1k', False),
        ('maskrcnn_halvit_t', True),
    ],
)
def test_weight_decay_spares_norms_biases_and_embeddings(name, with_cls_token):
    options = {'model.backbone.with_cls_token': with_cls_token}
    if not with_cls_token and name.startswith('pretrain/'):
        options['model.backbone.out_type'] = 'avg_featmap'
    cfg = load_config(str(CONFIGS / f'{name}.py'), options)
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


@pytest.mark.parametrize('name', PRETRAINING + TRANSFER)
def test_peak_and_final_score_are_logged(name):
    hooks = [hook['type'] for hook in load(name).get('custom_hooks') or []]
    assert hooks.count('halvit_mm.PeakToFinalHook') == 1


@pytest.mark.parametrize(
    ('name', 'options', 'ranks'),
    [
        # DeiT-B: method of the paper, 40 %: 1092 of 768
        ('deit_b_fips', {}, [1092] * 3),
        # r = floor(0.4 d P / (d + P / 4)), P = 4 x 1536 and 4 x 3072
        ('halvit_t_fips', {}, [491] * 3),
        ('halvit_m_fips', {}, [983] * 3),
        # as many blocks a stage as Swin-L has, half as wide
        (
            'swin_l_fips',
            {'model.backbone.arch': 'small'},
            [122, 245, 567, 567, 567, 983],
        ),
    ],
)
def test_groups_of_fips(name, options, ranks):
    cfg = load_config(str(CONFIGS / f'fips/{name}.py'), options)
    backbone = build_model(cfg).backbone
    plan = plan_compression(backbone, FiPSConfig.from_mapping(cfg.fips))
    assert [structure.rank for structure in plan.structures] == ranks
    units = [unit.name for group in plan.groups for unit in group.units]
    ffns = [n for n, _ in backbone.named_modules() if n.endswith('.ffn')]
    units = [name.removesuffix('.layers') for name in units]
    assert units == ffns  # every one, once


@pytest.mark.parametrize('name', ['cifar10', 'cifar10_long', 'nuclei'])
def test_studies(name):
    """Variants build; the narrow ViT stores what the tied one does."""
    study = Study.load(CONFIGS / 'studies' / f'{name}.yaml')
    stored = {}
    for run in study.runs:
        if run.variant not in stored:
            stored[run.variant] = count_parameters(build_model(run.cfg))[0]
    assert len({run.key for run in study.runs}) == len(study.runs)
    if name == 'nuclei':
        # four layers: two square matrices and an FFN's second one less each
        less = stored['untied, pretrained'] - stored['HaLViT, pretrained']
        assert less == 4 * (2 * 192**2 + 192 * 768)
        return
    assert len(stored) >= 9
    narrow = stored['untied, narrowed to the tied size']
    assert 0.97 < narrow / stored['tied'] <= 1
    assert stored['tied, fixed signs'] == stored['tied']


def test_demo_keeps_images_without_objects():
    dataset = load('demo/maskrcnn_halvit_shapes').train_dataloader.dataset
    assert dataset.filter_cfg.filter_empty_gt is False
