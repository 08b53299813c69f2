"""A training of a few parameters."""

import torch
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from torch import nn

from halvit_mm.engine import Runner

LENGTH = 4  # steps of an epoch


class Line(BaseModel):
    """Fits a line."""

    def __init__(self, width=4):
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, inputs, mode='tensor'):
        loss = self.layer(inputs).square().mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


def points(width=4):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2 * LENGTH, width, generator=generator)
    return [dict(inputs=point) for point in data]


def tiny_runner(folder, hook, epochs=3, **kwargs):
    """Make a runner of ``epochs`` epochs.

    Args:
        folder: Working folder.
        hook: Arguments of the checkpoint hook.
        epochs: Its length.
        kwargs: Further arguments of the runner.
    """
    torch.manual_seed(0)
    data = points()
    settings = dict(
        model=Line(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=data,
            sampler=dict(type=DefaultSampler, shuffle=True),
            batch_size=2,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='CosineAnnealingLR', T_max=epochs, end=epochs)
        ],
        default_hooks=dict(
            checkpoint=dict(type='halvit_mm.CheckpointHook', **hook)
        ),
        default_scope='mmengine',
        experiment_name=f'{folder}',
        randomness=dict(seed=0),
        cfg=dict(resume=kwargs.get('resume', False)),
    )
    return Runner(**{**settings, **kwargs})
