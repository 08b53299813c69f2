"""What a command line does to a config."""

import json

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from halvit_mm.apis import load_config

from ..commands import ROOT
from ..configs import flat

DETECTOR = ROOT / 'configs/maskrcnn_halvit_t.py'
CLASSIFIER = ROOT / 'configs/pretrain/halvit_t_in1k.py'
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
NAMES = ('cat', 'dog')


def load(options=None, path=DETECTOR, **kwargs):
    return load_config(str(path), options, **kwargs)


def datasets(cfg):
    return [cfg[name].dataset for name in DATALOADERS]


def settings(node, key):
    """Every ``key`` in a nested config: path -> value."""
    leaves = flat(node).items()
    return {k: v for k, v in leaves if k.rpartition('.')[2] == key}


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


def annotations(names):
    """One image without objects, and classes."""
    image = dict(id=1, file_name='1.png', width=8, height=8)
    categories = [dict(id=i, name=name) for i, name in enumerate(names)]
    return json.dumps(dict(images=[image], categories=categories))


@pytest.fixture
def data_root(tmp_path):
    """A folder with training annotations of two classes."""
    path = tmp_path / 'annotations/instances_train2017.json'
    path.parent.mkdir()
    path.write_text(annotations(NAMES))
    return tmp_path


@pytest.mark.parametrize('new', ['/there/shapes', '/there/shapes/'])
def test_data_root_moves_data_and_evaluators(new):
    before, after = load(), load({'data_root': new})
    assert [d.data_root for d in datasets(before)] == ['data/coco/'] * 3
    assert [d.data_root for d in datasets(after)] == ['/there/shapes/'] * 3
    for name in ('val_evaluator', 'test_evaluator'):
        path = before[name].ann_file.removeprefix('data/coco/')
        assert path == 'annotations/instances_val2017.json'
        assert after[name].ann_file == f'/there/shapes/{path}'


def test_data_root_moves_the_classifiers_data():
    old = {d.data_root for d in datasets(load(path=CLASSIFIER))}
    assert old == {'data/imagenet'}
    cfg = load({'data_root': '/there'}, CLASSIFIER)
    assert {d.data_root for d in datasets(cfg)} == {'/there/'}


def test_data_root_leaves_paths_that_were_set_by_name():
    cfg = load(
        {
            'data_root': '/there',
            'val_dataloader.dataset.data_root': '/elsewhere/',
            'val_evaluator.ann_file': '/elsewhere/val.json',
        }
    )
    assert cfg.train_dataloader.dataset.data_root == '/there/'
    assert cfg.val_dataloader.dataset.data_root == '/elsewhere/'
    assert cfg.val_evaluator.ann_file == '/elsewhere/val.json'


@pytest.mark.parametrize(
    'wrap',
    [
        lambda own: dict(type='RepeatDataset', times=2, dataset=own),
        lambda own: dict(type='ConcatDataset', datasets=[own, own]),
    ],
    ids=['RepeatDataset', 'ConcatDataset'],
)
def test_data_root_reaches_into_wrappers(wrap):
    wrapped = wrap(datasets(load())[0].to_dict())
    options = {
        'train_dataloader.dataset': dict(wrapped, _delete_=True),
        'data_root': '/there',
    }
    roots = settings(load(options).train_dataloader, 'data_root').values()
    assert set(roots) == {'/there/'}


def test_classes_are_taken_from_the_annotations(data_root):
    before = load({'data_root': str(data_root)})
    after = load({'data_root': str(data_root), 'classes': 'auto'})
    assert [d.metainfo.classes for d in datasets(after)] == [NAMES] * 3
    heads = [f'roi_head.{kind}_head.num_classes' for kind in ('bbox', 'mask')]
    for cfg, number in ((before, 80), (after, 2)):
        expected = dict.fromkeys(heads, number)
        assert settings(cfg.model, 'num_classes') == expected


def test_classes_may_be_listed():
    cfg = load({'classes': list(NAMES)}, read_data=False)
    assert [d.metainfo.classes for d in datasets(cfg)] == [NAMES] * 3
    assert set(settings(cfg.model, 'num_classes').values()) == {2}


def test_classes_reach_every_head_of_a_cascade(data_root):
    heads = {'model.roi_head.bbox_head': [dict(num_classes=80)] * 2}
    cfg = load({'data_root': str(data_root), 'classes': 'auto', **heads})
    assert [h.num_classes for h in cfg.model.roi_head.bbox_head] == [2, 2]


@pytest.mark.parametrize('kept', [('dog', 'cat'), None])
def test_a_test_takes_the_classes_of_its_checkpoint(data_root, kept, tmp_path):
    path = tmp_path / 'model.pth'
    meta = dict(dataset_meta=dict(classes=kept)) if kept else {}
    torch.save(dict(state_dict={'w': torch.zeros(1)}, meta=meta), path)
    options = {'data_root': str(data_root), 'classes': 'auto'}
    cfg = load(options, checkpoint=path)
    names = [tuple(d.metainfo.classes) for d in datasets(cfg)]
    assert names == [kept or NAMES] * 3


def test_classes_need_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match='classes=auto') as info:
        load({'data_root': str(tmp_path), 'classes': 'auto'})
    assert f'{tmp_path}/annotations/instances_train2017' in str(info.value)
    # Unless nothing is to be read: to look at a model takes no data.
    options = {'data_root': str(tmp_path), 'classes': 'auto'}
    cfg = load(options, read_data=False)
    assert cfg.model.roi_head.bbox_head.num_classes == 80


def edit(data_root, **changes):
    path = data_root / 'annotations/instances_train2017.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ('names', 'problem'),
    [([], 'has no "categories"'), (['cat', 'cat'], 'are called cat')],
)
def test_classes_need_distinct_names(data_root, names, problem):
    path = data_root / 'annotations/instances_train2017.json'
    path.write_text(annotations(names))
    with pytest.raises(ValueError, match=problem):
        load({'data_root': str(data_root), 'classes': 'auto'})


def test_classes_are_those_that_the_data_set_reads(data_root):
    """Without an exporter's root, and numbers as text."""
    names = ('pets', 'cat', 7)
    categories = [
        dict(id=i, name=name, supercategory='pets' if i else 'none')
        for i, name in enumerate(names)
    ]
    edit(data_root, categories=categories)
    cfg = load({'data_root': str(data_root), 'classes': 'auto'})
    assert [d.metainfo.classes for d in datasets(cfg)] == [('cat', '7')] * 3


@pytest.mark.parametrize('path', [DETECTOR, CLASSIFIER])
def test_bf16_runs_anywhere(path, no_gpu):
    cfg = load(path=path, amp='bf16')
    assert cfg.optim_wrapper.type == 'halvit_mm.BFloat16OptimWrapper'
    before = load(path=path).optim_wrapper
    assert cfg.optim_wrapper.optimizer == before.optimizer


def test_bf16_takes_the_place_of_fp16():
    options = {
        'optim_wrapper.type': 'AmpOptimWrapper',
        'optim_wrapper.dtype': 'float16',
        'optim_wrapper.loss_scale': 'dynamic',
    }
    cfg = load(options, CLASSIFIER, amp='bf16')
    wrapper = build_optim_wrapper(torch.nn.Linear(2, 2), cfg.optim_wrapper)
    assert type(wrapper).__name__ == 'BFloat16OptimWrapper'


def test_fp16_scales_the_loss(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    wrapper = load(path=CLASSIFIER, amp='fp16').optim_wrapper
    assert wrapper.type == 'AmpOptimWrapper'
    assert (wrapper.dtype, wrapper.loss_scale) == ('float16', 'dynamic')
    kept = load({'optim_wrapper.loss_scale': 512.0}, CLASSIFIER, amp='fp16')
    assert kept.optim_wrapper.loss_scale == 512.0


def test_fp16_needs_a_gpu(no_gpu):
    with pytest.raises(ValueError, match='--amp fp16 needs a GPU'):
        load(path=CLASSIFIER, amp='fp16')


def test_unknown_amp():
    with pytest.raises(ValueError, match="amp='int8'.*fp16.*bf16"):
        load(path=CLASSIFIER, amp='int8')


def test_work_dir_of_the_command_line_comes_first(tmp_path):
    options = {'work_dir': 'from/config'}
    cfgs = (
        load(path=CLASSIFIER),
        load(options, CLASSIFIER),
        load(options, CLASSIFIER, work_dir=str(tmp_path)),
    )
    assert [cfg.work_dir for cfg in cfgs] == [
        'work_dirs/halvit_t_in1k',
        'from/config',
        str(tmp_path),
    ]


def test_nothing_is_resumed_unasked():
    cfg = load()
    assert not cfg.resume
    assert cfg.load_from is None
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'


def test_resume_needs_a_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        load(path=CLASSIFIER, work_dir=str(tmp_path), resume='auto')
    assert f'there is no whole checkpoint in {tmp_path}' in str(info.value)
    assert '--work-dir' in str(info.value)
    cfg = load(work_dir=str(tmp_path), resume='auto-or-new')
    assert not cfg.get('resume') and not cfg.get('load_from')
    path = tmp_path / 'epoch_3.pth'
    with pytest.raises(FileNotFoundError, match=f'there is no {path}'):
        load(path=CLASSIFIER, resume=str(path))


def test_resume_as_the_host_has_it(tmp_path):
    options = {'resume': True}
    cfg = load(options, work_dir=str(tmp_path))
    assert cfg.resume is False  # there is nothing yet
    path = tmp_path / 'epoch_3.pth'
    content = dict(state_dict={}, optimizer={}, meta=dict(seed=5))
    torch.save(content, path)
    for cfg in (
        load(options, work_dir=str(tmp_path)),
        load({**options, 'load_from': str(path)}),
    ):
        assert (cfg.resume, cfg.load_from) == (True, str(path))
        assert cfg.randomness.seed == 5


@pytest.mark.parametrize('how', ['auto', 'auto-or-new', 'path'])
def test_resume_needs_no_pretrained_weights(tmp_path, how):
    path = tmp_path / 'epoch_3.pth'
    torch.save(dict(state_dict={}, optimizer={}, meta={}), path)
    resume = str(path) if how == 'path' else how
    cfg = load(work_dir=str(tmp_path), resume=resume)
    assert cfg.resume is True
    assert cfg.load_from == str(path)
    assert cfg.model.backbone.init_cfg is None


@pytest.mark.parametrize(
    ('init_cfg', 'is_kept'),
    [
        ([dict(type='TruncNormal', layer='Linear', std=0.02)], True),
        ([dict(type='Pretrained', checkpoint='gone.pth')], False),
        (None, True),
    ],
)
def test_resume_with_other_initialisations(tmp_path, init_cfg, is_kept):
    path = tmp_path / 'epoch_3.pth'
    torch.save(dict(state_dict={}, meta=dict(seed=5)), path)
    options = {'model.backbone.init_cfg': init_cfg}
    cfg = load(options, CLASSIFIER, resume=str(path))
    assert cfg.randomness.seed == 5
    # Dropped: None, or an empty list
    left = cfg.model.backbone.init_cfg or None
    assert left == (init_cfg if is_kept else None)


def test_launcher_without_a_gpu(no_gpu):
    cfg = load(path=CLASSIFIER, launcher='pytorch')
    assert cfg.launcher == 'pytorch'
    assert cfg.model_wrapper_cfg.type == 'MMDistributedDataParallel'
    assert cfg.model_wrapper_cfg.device_ids is None
    assert 'model_wrapper_cfg' not in load(path=CLASSIFIER)


def test_launcher_with_gpus_is_left_to_the_host(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = load(path=CLASSIFIER, launcher='pytorch')
    assert 'model_wrapper_cfg' not in cfg
