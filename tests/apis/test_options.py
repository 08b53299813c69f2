"""Options that would change nothing are errors, with what is meant."""

import runpy
import sys

import pytest

from halvit_mm.apis import load_config
from halvit_mm.apis.known_keys import known_keys

from ..commands import ROOT

DETECTOR = ROOT / 'configs/maskrcnn_halvit_t.py'
CLASSIFIER = ROOT / 'configs/pretrain/halvit_t_in1k.py'


def load(options, path=DETECTOR):
    return load_config(str(path), options, read_data=False)


@pytest.mark.parametrize(
    ('key', 'nearest'),
    [
        ('mdoel.backbone.x', 'model'),
        ('max_epochs', 'train_cfg.max_epochs'),
        ('lr', 'optim_wrapper.optimizer.lr'),
        ('backbone.init_cfg', 'model.backbone'),
        (
            'metainfo.classes',
            'train_dataloader.dataset.metainfo or '
            'val_dataloader.dataset.metainfo or '
            'test_dataloader.dataset.metainfo',
        ),
        ('train_dataloder.batch_size', 'train_dataloader'),
        ('train_dataloader.num_worker', 'train_dataloader.num_workers'),
        ('train_cfg.max_epoch', 'train_cfg.max_epochs'),
        ('randomness.determinstic', 'randomness.deterministic'),
        ('fips.budgett', 'fips.budget'),
        ('model.backbone.drop_path_rat', 'model.backbone.drop_path_rate'),
        # in the constructor of a base, not in the file
        ('model.backbone.frozen_stage', 'model.backbone.frozen_stages'),
        ('model.test_cfg.rcnn.scor_thr', 'model.test_cfg.rcnn.score_thr'),
        ('optim_wrapper.optimizer.lrr', 'optim_wrapper.optimizer.lr'),
        # its constructor takes any key
        (
            'default_hooks.checkpoint.intervall',
            'default_hooks.checkpoint.interval',
        ),
        ('default_hooks.chekpoint.interval', 'default_hooks.checkpoint'),
        (
            'train_dataloader.dataset.pipeline.0.max_brokn',
            'train_dataloader.dataset.pipeline.0.max_broken',
        ),
    ],
)
def test_unknown_keys_name_the_nearest(key, nearest):
    with pytest.raises(ValueError, match='unknown key') as info:
        load({key: 1})
    assert str(info.value).endswith(f'; did you mean {nearest}?')


def test_what_is_known_is_listed_where_nothing_is_near():
    with pytest.raises(ValueError) as info:
        load({'param_scheduler.7.end': 5})
    assert str(info.value) == (
        'option param_scheduler.7: unknown key; known: 0, 1'
    )


@pytest.mark.parametrize(
    ('key', 'path', 'effect'),
    [
        (
            'max_epochs',
            ROOT / 'configs/demo/maskrcnn_halvit_shapes.py',
            'set train_cfg.max_epochs',
        ),
        (
            'backend_args',
            DETECTOR,
            'set train_dataloader.dataset.backend_args or ',
        ),
        # under another name
        (
            'train_pipeline',
            DETECTOR,
            'set train_dataloader.dataset.pipeline',
        ),
        ('dataset_type', DETECTOR, 'nothing reads it'),
    ],
)
def test_variables_of_the_file_change_nothing(key, path, effect):
    with pytest.raises(ValueError) as info:
        load({key: 1}, path)
    assert str(info.value).startswith(
        f'option {key}: only a variable of the config file; {effect}'
    )


@pytest.mark.parametrize(
    ('key', 'value', 'path'),
    [
        ('model.backbone.with_cp', True, DETECTOR),  # not in the file
        ('model.backbone.frozen_stages', 2, DETECTOR),  # of the base class
        ('model.backbone.init_cfg', None, DETECTOR),
        ('model.test_cfg.rcnn.mask_thr', 0.4, DETECTOR),  # has no type
        ('train_dataloader.dataset.pipeline.0.max_broken', 3, DETECTOR),
        # of the type in its own scope
        ('val_dataloader.dataset.pipeline.0.bit_depth', 12, DETECTOR),
        ('param_scheduler.1.end', 5, DETECTOR),
        ('train_dataloader.drop_last', True, DETECTOR),
        ('train_dataloader.num_batch_per_epoch', 3, DETECTOR),
        ('optim_wrapper.accumulative_counts', 4, DETECTOR),
        ('optim_wrapper.optimizer.eps', 1e-9, DETECTOR),
        ('optim_wrapper.paramwise_cfg.bypass_duplicate', True, DETECTOR),
        ('auto_scale_lr.enable', True, DETECTOR),
        ('env_cfg.resource_limit', 9, DETECTOR),
        ('default_hooks.checkpoint.save_best', 'auto', DETECTOR),
        ('default_hooks.ema', dict(type='EMAHook'), DETECTOR),
        ('sync_bn', 'torch', DETECTOR),
        ('param_scheduler.0.end', 3, CLASSIFIER),
        ('data_preprocessor.to_rgb', False, CLASSIFIER),
        ('model.head.loss.label_smooth_val', 0.2, CLASSIFIER),
        ('train_dataloader.sampler.num_repeats', 2, CLASSIFIER),
    ],
)
def test_known_keys(key, value, path):
    node = load({key: value}, path)
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value


def test_the_constructor_is_that_of_the_new_type():
    new = {'model.backbone.type': 'halvit_mm.PlainViT'}
    old = {'model.backbone.out_gain': True}  # of HaLViT
    assert load({**old}).model.backbone.out_gain
    with pytest.raises(ValueError, match='model.backbone.out_gain'):
        load({**new, **old})
    # The builder knows better what is wrong with a type that is nowhere.
    load({'model.backbone.type': 'halvit_mm.Other', 'model.backbone.x': 1})


def test_kwargs_lead_to_the_bases_and_no_further():
    class Base:
        def __init__(self, depth, **kwargs):
            pass

    class Closed(Base):
        def __init__(self, channels):
            super().__init__(depth=3)

    class Open(Base):
        def __init__(self, channels, **kwargs):
            super().__init__(**kwargs)

    option = dict(depth=1, other=2, chanels=3)
    closed, open_ = (
        known_keys(dict(type=kind), option, ('model',), 'mmengine')
        for kind in (Closed, Open)
    )
    assert closed & {*option, 'channels'} == {'channels'}
    # Base takes anything: but not what is nearly a name that it has.
    assert open_ & {*option, 'channels'} == {'channels', 'depth', 'other'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'model.backbone.arch.num_layers': 3}, "arch is 'tiny' in the conf"),
        ({'val_cfg': None, 'val_cfg.fp16': True}, 'val_cfg is set as well'),
        ({'train_dataloader.dataset.pipeline.0': 3}, 'pipeline as a whole'),
    ],
)
def test_a_value_has_no_keys(options, message):
    with pytest.raises(ValueError, match=message):
        load(options, CLASSIFIER)


@pytest.mark.parametrize(
    'key', ['classes', 'train_dataloader.dataset.metainfo.classes']
)
def test_a_string_is_no_list_of_classes(key, tmp_path):
    with pytest.raises(ValueError) as info:
        load({key: 'cat'})
    assert str(info.value).endswith(f" a list, '{key}=[cat]'")
    if key == 'classes':
        return
    path = tmp_path / 'classes.txt'  # which mmengine reads
    path.write_text('cat\ndog\n')
    cfg = load({key: str(path)})
    assert cfg.train_dataloader.dataset.metainfo.classes == str(path)


def test_custom_imports_of_an_option_are_imported(tmp_path, monkeypatch):
    (tmp_path / 'imported_by_an_option.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))
    load({'custom_imports.imports': ['halvit_mm', 'imported_by_an_option']})
    assert 'imported_by_an_option' in sys.modules


TOOLS = {
    'train': (DETECTOR,),
    'test': (DETECTOR, 'no.pth'),
    'compress': (DETECTOR, 'no.pth', '--out', 'no'),
    'analysis_tools/model_info': (DETECTOR,),
    'analysis_tools/check_config': (DETECTOR,),
    'analysis_tools/compare': (ROOT / 'configs/studies/cifar10.yaml',),
}


@pytest.mark.parametrize('name', TOOLS)
@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('resume', '\'resume\' has no "=value"'),
        ('mdoel.x=1', 'option mdoel: unknown key; did you mean model?'),
    ],
)
def test_tools_end_in_one_line(name, option, message, monkeypatch, capsys):
    args = [name, *map(str, TOOLS[name]), '--cfg-options', option]
    monkeypatch.setattr(sys, 'argv', args)
    path = ROOT / f'tools/{name}.py'
    monkeypatch.syspath_prepend(str(path.parent))
    with pytest.raises(SystemExit) as info:
        runpy.run_path(str(path), run_name='__main__')
    code = info.value.code
    assert code not in (0, None)
    output = capsys.readouterr()
    assert message in f'{code}{output.out}{output.err}'
