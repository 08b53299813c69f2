"""Train the demo's detector and save what each rank holds (not a test).

Once whole, and once with frozen stages.
"""

import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction

from halvit_mm.apis import build_runner, load_config


def parse(options):
    values = (option.split('=', 1) for option in options)
    return {key: DictAction._parse_iterable(value) for key, value in values}


def train(frozen_stages):
    out = f'{os.environ["OUT"]}/{frozen_stages}'
    options = {
        **parse(sys.argv[1:]),
        'model.backbone.frozen_stages': frozen_stages,
    }
    cfg: Config = load_config(
        'configs/demo/maskrcnn_halvit_shapes.py',
        options,
        work_dir=out,
        launcher='pytorch',
    )
    runner = build_runner(cfg)
    model = runner.model.module
    model.init_weights()
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    runner.val_loop.run = lambda: None  # only the training counts here
    runner.train()
    history = runner.message_hub.log_scalars['train/loss'].data[0]
    torch.save(
        dict(
            state_dict=model.state_dict(),
            initial=initial,
            losses=history.tolist(),
            steps=runner.iter,
        ),
        f'{out}/rank{dist.get_rank()}.pth',
    )


def main():
    for frozen_stages in (0, 2):
        train(frozen_stages)


if __name__ == '__main__':
    main()
