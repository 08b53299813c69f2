"""Schedules follow the length of a run on one's own data."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from halvit_mm.apis import load_config, schedules
from halvit_mm.apis.schedules import fit, fit_schedule, is_fitted

from ..commands import ROOT

DETECTOR = ROOT / 'configs/maskrcnn_halvit_t.py'
NUCLEI = ROOT / 'configs/custom/maskrcnn_halvit_nuclei.py'
SHAPES = ROOT / 'configs/demo/maskrcnn_halvit_shapes.py'
AUTO = {'classes': 'auto'}


def load(options=None, path=DETECTOR):
    return load_config(str(path), options, read_data=False)


@pytest.fixture
def said(monkeypatch):
    """What is logged, as one list."""
    lines = []
    monkeypatch.setattr(
        schedules, 'print_log', lambda line, **kwargs: lines.append(line)
    )
    return lines


def run(cfg, steps, said):
    """The schedulers of a runner whose epoch has so many steps."""
    length = cfg.train_cfg.get('max_iters', 0)
    length = length or cfg.train_cfg.max_epochs * steps
    runner = SimpleNamespace(
        cfg=cfg,
        train_loop=SimpleNamespace(max_iters=length),
        param_schedulers=cfg.param_scheduler,
        logger=SimpleNamespace(info=said.append, warning=said.append),
    )
    fit_schedule(runner)
    return runner.param_schedulers


def rates(configs, epochs, steps):
    """The learning rate of every step, relative to the optimiser's."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    wrapper = OptimWrapper(torch.optim.SGD([parameter], lr=1.0))
    built = [
        PARAM_SCHEDULERS.build(
            dict(config), default_args=dict(optimizer=wrapper)
        )
        for config in configs
    ]
    found = []
    for step in range(1, epochs * steps + 1):
        found.append(wrapper.get_lr()['lr'][0])
        wrapper.optimizer.step()
        for scheduler in built:
            if not scheduler.by_epoch or step % steps == 0:
                scheduler.step()
    return found


@pytest.mark.parametrize('epochs', [24, 12])
def test_few_images_reach_the_full_rate(epochs, said):
    """61 images, 2 a step: 31 steps an epoch."""
    cfg = load({**AUTO, 'train_cfg.max_epochs': epochs})
    rate = rates(run(cfg, 31, said), epochs, 31)
    warmup = {24: 93, 12: 46}[epochs]  # 1/8 of 744 and of 372
    first, second = {24: (16, 22), 12: (8, 11)}[epochs]
    assert rate[0] == pytest.approx(0.001)
    assert rate[warmup - 2] < 0.999
    full = slice(warmup, first * 31)
    assert rate[full] == pytest.approx([1.0] * len(rate[full]))
    assert rate[first * 31] == pytest.approx(0.1)
    assert rate[second * 31 - 1] == pytest.approx(0.1)
    assert rate[second * 31 :] == pytest.approx([0.01] * (31 * epochs // 12))
    assert said[-1] == (
        f'schedule fitted to {31 * epochs} steps: '
        f'param_scheduler.0.end 500 -> {warmup}'
    )
    assert said[:-1] == (
        [
            'schedule of 24 epochs fitted to 12: param_scheduler.1.end '
            '24 -> 12, param_scheduler.1.milestones [16, 22] -> [8, 11]'
        ]
        if epochs == 12
        else []
    )


def test_a_long_run_keeps_its_warmup(said):
    fitted = run(load(AUTO), 7330, said)
    assert (fitted[0]['end'], fitted[1]['milestones']) == (500, [16, 22])
    assert not said


@pytest.mark.parametrize(
    ('epochs', 'warmup', 'total'), [(6, 50, 402), (3, 25, 201), (60, 50, 4020)]
)
def test_nuclei_have_no_hard_coded_steps(epochs, warmup, total, said):
    """Epochs of 67 steps: the schedule that docs/custom_data.md gives."""
    cfg = load({'train_cfg.max_epochs': epochs}, NUCLEI)
    linear, cosine = run(cfg, 67, said)
    assert linear == dict(
        type='LinearLR', start_factor=0.01, end=warmup, by_epoch=False
    )
    assert cosine == dict(
        type='CosineAnnealingLR', begin=warmup, end=total, by_epoch=False
    )
    (line,) = said
    assert line.startswith(f'schedule fitted to {total} steps: param_')
    assert line.endswith(f'param_scheduler.1.end 500 -> {total}')


def test_other_data_are_left_alone(said):
    """The demo's and COCO's: their schedules are those of their files."""
    for path in (SHAPES, DETECTOR):
        before = load(path=path)
        after = load({'train_cfg.max_epochs': 12}, path)
        assert after.param_scheduler == before.param_scheduler
        assert run(after, 999, said) is after.param_scheduler
    assert not said
    run(before, 31, said)  # 500 of 744
    assert said == [
        'the warm-up takes 500 of 744 steps; fit_schedule=True would set '
        'param_scheduler.0.end 500 -> 93'
    ]


@pytest.mark.parametrize(
    'option', [{'param_scheduler.1.milestones': [9]}, {'fit_schedule': False}]
)
def test_what_is_set_by_name_stays(option, said):
    options = {**AUTO, 'train_cfg.max_epochs': 12, **option}
    cfg = load(options)
    assert not is_fitted(cfg)
    fitted = run(cfg, 61, said)
    assert fitted[0]['end'] == 500
    assert fitted[1]['milestones'] == option.get(
        'param_scheduler.1.milestones', [16, 22]
    )
    assert is_fitted(load({**options, 'fit_schedule': True}))


def test_a_base_for_more_epochs_than_the_file_has(tmp_path, said):
    path = tmp_path / 'own.py'
    path.write_text(
        f"_base_ = '{DETECTOR}'\nclasses = 'auto'\n"
        'train_cfg = dict(max_epochs=6)\n'
    )
    milestones = load(path=path).param_scheduler[1].milestones
    assert milestones == [4, 6]  # 16 x 6 / 24 and 5.5, rounded to even


def test_runs_by_steps(tmp_path, said):
    path = tmp_path / 'own.py'
    path.write_text(
        f"_base_ = '{SHAPES}'\nclasses = 'auto'\n"
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', "
        'max_iters=800)\n'
        'param_scheduler = [\n'
        "    dict(type='LinearLR', end=80, by_epoch=False),\n"
        "    dict(type='MultiStepLR', milestones=[600], by_epoch=False)]\n"
    )
    linear, steps = run(load({'train_cfg.max_iters': 400}, path), 1, said)
    # The warm-up is cut to 1/8; 600 is 520 of the 720 steps after it.
    assert linear.end == 50
    assert steps.milestones == [round(50 + 520 / 720 * 350)]
    assert load(path=path).param_scheduler[1].milestones == [600]


@pytest.mark.parametrize('converted', [False, True])
def test_warmup_by_epochs_keeps_its_share(converted):
    extra = dict(convert_to_iter_based=True) if converted else {}
    configs = [
        dict(type='LinearLR', end=5, **extra),
        dict(type='CosineAnnealingLR', begin=5, end=300, T_max=295, **extra),
    ]
    linear, cosine = fit(configs, True, 300, 120)
    assert (linear['end'], cosine['begin'], cosine['end']) == (2, 2, 120)
    assert cosine['T_max'] == 118
    linear, cosine = fit(configs, True, 300, 60)
    # In one epoch the rate could not rise, unless it is counted in steps.
    least = 1 if converted else 2
    assert (linear['end'], cosine['begin'], cosine['end']) == (
        least,
        least,
        60,
    )


@pytest.mark.parametrize(
    ('total', 'warmup'), [(1, 2), (2, 2), (3, 2), (5, 2), (24, 3), (400, 50)]
)
def test_very_short_runs_have_a_schedule(total, warmup):
    configs = Config.fromfile(SHAPES).param_scheduler
    linear, cosine = fit(configs, False, 500, total)
    assert linear.end == cosine.begin == warmup
    rate = rates([linear, cosine], 1, total)
    assert max(rate) == pytest.approx(1.0 if total > 1 else 0.01)


def test_a_linear_decay_is_no_warmup():
    decay = dict(type='LinearLR', start_factor=1.0, end_factor=0.0)
    decay.update(end=500, by_epoch=False)
    assert fit([decay], False, 500, 100)[0]['end'] == 100


def test_classes_that_are_read_count_too(tmp_path, said):
    path = tmp_path / 'annotations/instances_train2017.json'
    path.parent.mkdir()
    image = dict(id=1, file_name='1.png', width=8, height=8)
    categories = [dict(id=1, name='cell')]
    path.write_text(json.dumps(dict(images=[image], categories=categories)))
    options = {**AUTO, 'data_root': str(tmp_path)}
    cfg = load_config(str(DETECTOR), options)
    assert run(cfg, 31, said)[0]['end'] == 93
    cfg = load({'classes': ['cell']})
    assert run(cfg, 31, said)[0]['end'] == 93
