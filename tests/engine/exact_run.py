"""A training that draws random numbers, whole or in parts."""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import nn
from torch.utils.data import Dataset

from halvit_mm.engine import Runner, make_exact

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
    **more,
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
    settings.update(more)
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
    scaler = runner.optim_wrapper.state_dict().get('loss_scaler', {})
    return state | {k: torch.tensor(v) for k, v in scaler.items()}


def check_resumed(folder, end, more=dict, **changes):
    """Compare a resumed run with an undisturbed one, which is returned."""
    whole, losses = train(folder / 'whole', **more())
    _, first = train(folder / 'parts', end=end, **more())
    resumed, second = train(
        folder / 'parts',
        resume=str(folder / 'parts/middle.pth'),
        **more(),
        **changes,
    )
    assert {**first, **second} == losses
    assert min(second) == end and resumed.iter == EPOCHS * STEPS
    here, there = state_of(resumed), state_of(whole)
    assert here.keys() == there.keys()
    assert all(torch.equal(here[k], there[k]) for k in here)
    return whole
