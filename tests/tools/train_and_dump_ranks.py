"""Train the demo's detector and save what each rank holds (not a test)."""

import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction

from halvit_mm.apis import build_runner, load_config


def parse(options):
    values = (option.split('=', 1) for option in options)
    return {key: DictAction._parse_iterable(value) for key, value in values}


def main():
    cfg: Config = load_config(
        'configs/demo/maskrcnn_halvit_shapes.py',
        parse(sys.argv[1:]),
        work_dir=os.environ['OUT'],
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
        f'{os.environ["OUT"]}/rank{dist.get_rank()}.pth',
    )


if __name__ == '__main__':
    main()
