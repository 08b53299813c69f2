"""N steps are k steps and a resumed run, to the bit."""

import os
import random
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from halvit_mm.checkpoint import find_checkpoint
from halvit_mm.engine import (
    ResumableBatchSampler,
    StepCheckpointHook,
    make_exact,
)
from halvit_mm.engine.preemption import SIGNALS

from .tiny_run import Line, points

EPOCHS, STEPS = 3, 4


class Noisy(Dataset):
    """Draws from all three generators, as transforms do."""

    metainfo = dict(classes=('a', 'b'))

    def __init__(self):
        self.points = points()

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        noise = random.random() + np.random.rand() + torch.rand(4)
        return dict(inputs=self.points[index]['inputs'] + noise)


class Dropping(Line):
    """Draws in the model, too."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__()

    def forward(self, inputs, mode='tensor'):
        return super().forward(nn.functional.dropout(inputs, 0.3), mode)


class Watch(Hook):
    """Keeps all losses; ends the run, and saves, after some steps."""

    priority = 'LOWEST'

    def __init__(self, end=None, steps=STEPS):
        self.losses, self.end, self.steps = {}, end, steps

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        assert batch_idx == runner.iter % self.steps
        self.losses[runner.iter] = outputs['loss'].item()
        if runner.iter + 1 == self.end:
            name = 'middle.pth'
            meta = dict(epoch=runner.epoch, iter=self.end)
            runner.save_checkpoint(runner.work_dir, name, meta=meta)
            raise KeyboardInterrupt


def train(
    folder,
    end=None,
    resume=None,
    workers=0,
    batch_size=2,
    steps=STEPS,
    validate=False,
    val_workers=0,
    hooks=(),
):
    loader = dict(
        dataset=dict(type=Noisy),
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=dict(type='default_collate'),
    )
    settings = dict(
        model=Dropping(),
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5),
            dict(type='CosineAnnealingLR', T_max=EPOCHS),
        ],
        custom_hooks=[dict(type='EMAHook', momentum=0.1)],
        default_hooks=dict(checkpoint=dict(type='halvit_mm.CheckpointHook')),
        default_scope='mmengine',
        experiment_name=f'{folder} {end} {resume}',
    )
    if validate:
        settings.update(
            val_dataloader=dict(
                dataset=dict(type=Noisy),
                sampler=dict(type='DefaultSampler', shuffle=False),
                batch_size=4,
                num_workers=val_workers,
                persistent_workers=val_workers > 0,
                collate_fn=dict(type='default_collate'),
            ),
            val_cfg=dict(),
            val_evaluator=dict(
                type='DumpResults', out_file_path=f'{folder}.pkl'
            ),
        )
    watch = Watch(end, steps)
    settings.update(
        custom_hooks=[*settings['custom_hooks'], *hooks, watch],
        randomness=dict(seed=3),
        resume=resume is not None,
        load_from=resume,
        cfg=dict(resume=resume is not None),
    )
    runner = Runner(**settings)
    assert make_exact(runner)
    try:
        runner.train()
    except KeyboardInterrupt:
        pass
    finally:
        for loop in (runner.train_loop, runner.val_loop):
            iterator = getattr(loop and loop.dataloader, '_iterator', None)
            if iterator:  # left to the garbage collector it takes 5 s
                iterator._shutdown_workers()
    return runner, watch.losses


def state_of(runner):
    state = {f'model.{k}': v for k, v in runner.model.state_dict().items()}
    (ema,) = (h for h in runner.hooks if hasattr(h, 'ema_model'))
    state |= {f'ema.{k}': v for k, v in ema.ema_model.state_dict().items()}
    for i, values in runner.optim_wrapper.state_dict()['state'].items():
        state |= {f'optimizer.{i}.{k}': v for k, v in values.items()}
    return state


@pytest.mark.parametrize('end', [3, 4, 6])
@pytest.mark.parametrize('workers', [0, 2])
def test_resumed(tmp_path, end, workers):
    whole, losses = train(tmp_path / 'whole')
    _, first = train(tmp_path / 'parts', end=end)
    resumed, second = train(
        tmp_path / 'parts',
        resume=str(tmp_path / 'parts/middle.pth'),
        workers=workers,
    )
    assert {**first, **second} == losses
    assert min(second) == end and resumed.iter == EPOCHS * STEPS
    here, there = state_of(resumed), state_of(whole)
    assert here.keys() == there.keys()
    assert all(torch.equal(here[k], there[k]) for k in here)


def test_samples_differ_by_epoch_and_seed(tmp_path):
    _, losses = train(tmp_path)
    assert len(set(losses.values())) == EPOCHS * STEPS


def test_another_batch_begins_the_epoch_anew(tmp_path):
    train(tmp_path, end=6)
    (tmp_path / 'middle.pth').rename(tmp_path / 'start.pth')
    watch = train(
        tmp_path, resume=str(tmp_path / 'start.pth'), batch_size=4, steps=2
    )[1]
    assert sorted(watch) == [2, 3, 4, 5]  # epochs of two steps


def test_batches_of_another_sampler_keep_their_places():
    sampler = torch.utils.data.SequentialSampler(range(10))
    sampler.epoch = 7
    batches = ResumableBatchSampler(sampler, 4, seed=3)
    assert [list(map(int, b)) for b in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    batches.skipped = 2
    (last,) = batches
    assert [i.where for i in last] == [(3, 7, 0, 2, 0), (3, 7, 0, 2, 1)]
    assert len(batches) == len(list(batches)) == 3


def test_only_trainings_by_epochs_are_changed(tmp_path):
    loop = dict(type='IterBasedTrainLoop', max_iters=9)
    runner = SimpleNamespace(_train_loop=loop, _train_dataloader=dict(x=1))
    assert not make_exact(runner)
    assert runner._train_dataloader == dict(x=1)


@pytest.mark.parametrize('moment', ['train', 'val'])
def test_a_signal_between_and_within_epochs(tmp_path, moment):
    """The averages are evaluated, and the trained weights are saved."""

    class Ask(Hook):
        """Sends a signal in the second epoch or after it."""

        priority = 'NORMAL'

        def after_train_iter(self, runner, *args, **kwargs):
            if moment == 'train' and runner.iter == STEPS + 1:
                os.kill(os.getpid(), signal.SIGTERM)

        def before_val_epoch(self, runner):
            if moment == 'val' and runner.epoch == 2:
                # as a terminal does, to all of a group
                workers = runner.val_loop.dataloader._iterator._workers
                for process in [os.getpid(), workers[0].pid]:
                    if os.getpgid(process) == os.getpgid(0):
                        os.kill(process, signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    whole, losses = train(tmp_path / 'whole', validate=True)
    folder = tmp_path / 'parts'
    with pytest.raises(SystemExit) as info:
        train(
            folder,
            validate=True,
            val_workers=1,
            hooks=[Ask(), StepCheckpointHook()],
        )
    signal.signal(signal.SIGTERM, before)
    assert info.value.code == 75
    (saved,) = folder.glob('step_*.pth')
    done = STEPS + 2 if moment == 'train' else 2 * STEPS
    assert saved.name == f'step_{done}.pth'
    assert find_checkpoint(folder) == str(saved)
    resumed, second = train(
        folder,
        resume=str(saved),
        validate=True,
        hooks=[StepCheckpointHook(interval=3)],
    )
    assert second == {k: v for k, v in losses.items() if k >= done}
    here, there = state_of(resumed), state_of(whole)
    assert all(torch.equal(here[k], there[k]) for k in here)
    assert not list(folder.glob('step_*.pth'))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_has_just_begun(number):
    """It has the handlers of its parent, which waits for its end."""
    hook = StepCheckpointHook()
    before = {n: signal.getsignal(n) for n in SIGNALS}
    hook.before_train(SimpleNamespace(train_loop=None, val_loop=None))
    worker = os.fork()
    if not worker:
        time.sleep(0.5)
        os._exit(7)
    time.sleep(0.1)
    os.kill(worker, number)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    for n, handler in before.items():
        signal.signal(n, handler)
    assert status == (0 if number == signal.SIGTERM else 7)


@pytest.mark.parametrize('spoilt', [False, True])
def test_the_last_finite_step_is_kept(tmp_path, spoilt):
    class Spoil(Hook):
        def before_train_iter(self, runner, *args, **kwargs):
            if spoilt and runner.iter == 4:
                runner.model.layer.bias.data.fill_(torch.nan)

    hooks = [Spoil(), StepCheckpointHook(interval=3)]
    train(tmp_path, end=7, hooks=hooks)
    found = sorted(path.name for path in tmp_path.glob('step_*.pth'))
    assert found == ['step_3.pth', 'step_6.pth'][not spoilt :]
    (tmp_path / 'middle.pth').unlink()
    best = 'step_3.pth' if spoilt else 'step_6.pth'
    assert find_checkpoint(tmp_path) == str(tmp_path / best)
