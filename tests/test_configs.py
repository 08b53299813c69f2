"""Every config builds, and differs from its relatives only where it should."""

import pytest
from mmengine.config import Config
from study.plan import Study

from halvit_mm.apis import load_config
from halvit_mm.apis.fake_data import image_size
from halvit_mm.apis.model_info import build_model, count_parameters
from halvit_mm.compression import FiPSConfig, plan_compression

from .commands import ROOT
from .configs import (
    BOX_DETECTORS,
    CONFIGS,
    DETECTORS,
    FOREIGN,
    NAMES,
    PRETRAINING,
    RESNETS,
    TRANSFER,
    VIT_DETECTORS,
    build_on_meta,
    built,
    differing,
    load,
)


def differences(name, other):
    """Paths at which two configs differ, their output folder apart."""
    one, two = (
        {k: v for k, v in load(n).items() if k != 'work_dir'}
        for n in (name, other)
    )
    return differing(one, two)


def test_no_config_is_forgotten():
    assert len(DETECTORS) >= 13
    assert len(PRETRAINING) >= 14
    assert len(TRANSFER) >= 14
    assert len(RESNETS) >= 4
    assert {'demo/halvit_shapes', 'demo/maskrcnn_halvit_shapes'} < set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_config_builds(name):
    cfg = load(name)
    assert cfg.custom_imports.imports[0] == 'halvit_mm'
    assert cfg.custom_imports.allow_failed_imports is False
    backbone = built(name).backbone
    kind = cfg.model.backbone.type.removeprefix('halvit_mm.')
    assert type(backbone).__name__ == kind
    assert count_parameters(backbone)[0] > 0


@pytest.mark.parametrize('name', NAMES)
def test_image_size_of_the_reports(name):
    """What `model_info` assumes where it is told no size."""
    cfg = load(name)
    size = image_size(cfg)
    if name in FOREIGN:
        assert size == (1024, 1024)
    elif name in DETECTORS:  # 1333 and 800, padded to multiples of 32
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
    backbone = built(name).backbone
    stored, effective = count_parameters(backbone)
    assert (stored < effective) == tied
    assert backbone.embed_dims == embed_dims
    assert len(backbone.layers) == 12
    assert backbone.layers[0].drop_path.drop_prob == 0
    last = backbone.layers[-1].drop_path.drop_prob
    assert last == pytest.approx(drop_path)


def test_resnet_detector_differs_from_the_hosts_in_the_backbone():
    base = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py'
    host = Config.fromstring(f'_base_ = {base!r}', '.py')
    ours = load('maskrcnn_resnet50_pe')
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        found = differing(ours[key], host[key])
        assert all(path.startswith('backbone.') for path in found), key
        assert bool(found) == (key == 'model')


@pytest.mark.parametrize('name', DETECTORS)
def test_broken_images_are_skipped_in_training_only(name):
    cfg = load(name)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.type == 'halvit_mm.CocoDataset'
        loading = dataset.pipeline[0]
        # so that `DetInferencer` and mmdet's analyze_results know it
        assert loading.type == 'LoadImageFromFile'
        assert loading['_scope_'] == 'halvit_mm'
        assert loading.get('max_broken') == (10 if split == 'train' else None)


BASES = dict(  # detector -> its base and the options of the backbone
    halvit_t_signed=('halvit_t', ['attn', 'gain']),
    vit_s=('halvit_t', ['type']),
    halvit_m=('halvit_t', ['arch']),
    halvit_m_signed=('halvit_m', ['attn', 'gain']),
    halvit_m_shared=('halvit_m', ['type']),
    halvit_m_window=(
        'halvit_m',
        [*(f'window_block_indexes.{i}' for i in range(8)), 'window_size'],
    ),
    vit_b=('halvit_m', ['type']),
    vit_b_groupedmlp=('vit_b', ['group_size', 'shares.0', 'type']),
    vit_b_grouped=('vit_b', ['group_size', 'share_vectors', 'type']),
    vit_b_shallowmlp=('vit_b', ['arch']),
)


def test_no_detector_is_forgotten():
    names = {f'maskrcnn_{name}' for name in BASES}
    names |= {'maskrcnn_halvit_t', *BOX_DETECTORS, *FOREIGN}
    assert names == set(VIT_DETECTORS)


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


@pytest.mark.parametrize(
    ('name', 'base', 'options'),
    [
        ('vit_s_in1k', 'halvit_t_in1k', ['type']),
        ('vit_b_in1k', 'halvit_m_in1k', ['type']),
        ('halvit_m_shared_in1k', 'halvit_m_in1k', ['type']),
        ('halvit_t_signed_in1k', 'halvit_t_in1k', ['attn', 'gain']),
        ('halvit_m_signed_in1k', 'halvit_m_in1k', ['attn', 'gain']),
        ('vit_pe_in1k', 'halvit_m_in1k', []),
        (
            'vit_b_groupedmlp_in1k',
            'vit_b_in1k',
            ['group_size', 'shares.0', 'type'],
        ),
        (
            'vit_b_grouped_in1k',
            'vit_b_in1k',
            ['group_size', 'share_vectors', 'type'],
        ),
        ('vit_b_shallowmlp_in1k', 'vit_b_in1k', ['arch']),
        ('resnet50_pe1_in1k', 'resnet50_pe2_in1k', None),
        ('resnet50_pe2_in1k', 'resnet50_in1k', None),
    ],
)
def test_pretraining_differs_only_in_the_backbone(name, base, options):
    found = differences(f'pretrain/{name}', f'pretrain/{base}')
    prefix = 'model.backbone.'
    if options is None:
        assert found and all(path.startswith(prefix) for path in found)
    else:
        assert found == [prefix + option for option in options]


def test_windows():
    """ViTDet-B: a global layer at the end of each quarter."""
    backbone = built('maskrcnn_halvit_m_window').backbone
    sizes = [layer.attn.window_size for layer in backbone.layers]
    assert sizes == [14, 14, 0] * 4


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
    assert built(name).head.layers.head.weight.shape == (classes, dims)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert data[:4].lower() in dataset.data_root.replace('_', '')
        assert dataset.pipeline[-1].type == 'PackInputs'
    assert cfg.train_dataloader.dataset.split != (
        cfg.test_dataloader.dataset.split
    )


@pytest.mark.parametrize('name', sorted({*DETECTORS} - {*FOREIGN}))
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
            model = build_on_meta(run.cfg)
            stored[run.variant] = count_parameters(model)[0]
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
