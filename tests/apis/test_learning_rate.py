"""The images of a step, and what is said if the rate is for others."""

from types import SimpleNamespace

import pytest

from halvit_mm.apis import config, learning_rate, load_config
from halvit_mm.apis.learning_rate import warn_of_batch_size

from ..commands import ROOT

DETECTOR = ROOT / 'configs/maskrcnn_halvit_t.py'
SHAPES = ROOT / 'configs/demo/maskrcnn_halvit_shapes.py'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load(options=None, path=DETECTOR, **kwargs):
    return load_config(str(path), options, read_data=False, **kwargs)


def warnings(cfg, world_size, monkeypatch):
    monkeypatch.setattr(learning_rate, 'get_world_size', lambda: world_size)
    lines = []
    logger = SimpleNamespace(warning=lines.append)
    warn_of_batch_size(SimpleNamespace(cfg=cfg, logger=logger))
    return lines


def test_another_batch_is_said_with_both_rates(monkeypatch):
    assert warnings(load(), 1, monkeypatch) == [
        'the learning rate 5e-05 is for 8 images a step, but this run has '
        '1 x 2 = 2: the linear rule gives 1.25e-05; --auto-scale-lr '
        'applies it'
    ]


def test_nothing_is_said_of_the_right_batch(monkeypatch):
    assert not warnings(load(), 4, monkeypatch)
    accumulated = {'optim_wrapper.accumulative_counts': 4}
    assert not warnings(load(accumulated), 1, monkeypatch)
    assert '2 x 2 x 4 = 16' in warnings(load(accumulated), 2, monkeypatch)[0]
    assert not warnings(load(auto_scale_lr=True), 1, monkeypatch)
    assert not warnings(load(path=SHAPES), 1, monkeypatch)


def test_auto_scale_lr_needs_to_know_the_batch():
    assert load(auto_scale_lr=True).auto_scale_lr == dict(
        enable=True, base_batch_size=8
    )
    with pytest.raises(ValueError, match='no auto_scale_lr.base_batch_size'):
        load(path=SHAPES, auto_scale_lr=True)
    four = {'optim_wrapper.accumulative_counts': 4}
    with pytest.raises(ValueError, match=r'\(accumulative_counts=4\)'):
        load(four, auto_scale_lr=True)


def test_no_workers_cannot_persist(monkeypatch):
    lines = []
    monkeypatch.setattr(
        config, 'print_log', lambda line, **kwargs: lines.append(line)
    )
    before = load()
    assert all(before[name].persistent_workers for name in LOADERS)
    options = {f'{name}.num_workers': 0 for name in LOADERS[:2]}
    options['train_dataloader.prefetch_factor'] = 4
    cfg = load(options)
    kept = [cfg[name].persistent_workers for name in LOADERS]
    assert kept == [False, False, True]
    assert 'prefetch_factor' not in cfg.train_dataloader
    assert lines == [
        'num_workers=0: no persistent_workers, no prefetch_factor in '
        'train_dataloader, val_dataloader'
    ]
