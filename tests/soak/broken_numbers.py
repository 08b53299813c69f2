"""Train a detector with one NaN pixel, and with an infinite learning rate.

Results are kept in docs/soak/broken_numbers.json.
"""

import os
import tempfile
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from halvit_mm.checkpoint import find_checkpoint, not_finite
from halvit_mm.datasets.shapes import draw_detection_split

from ..commands import ROOT
from ..tools.conftest import DETECTOR, tool
from ..tools.trainings import weights
from .results import keep

SCHEDULE = [dict(type='MultiStepLR', by_epoch=False, milestones=[7])]


@TRANSFORMS.register_module()
class SpoilOnePixel:
    """Makes a pixel of one image NaN."""

    def __init__(self, name):
        self.name = name

    def __call__(self, results):
        if results['img_path'].endswith(self.name):
            results['img'] = results['img'].astype('float32')
            results['img'][5, 7, 1] = torch.nan
        return results


def spoilt_config(path: Path, name: str) -> Path:
    """Write a config of the demo's detector with a spoilt image."""
    cfg = Config.fromfile(ROOT / DETECTOR)
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline.insert(-1, dict(type='SpoilOnePixel', name=name))
    cfg.custom_imports.imports.append(__spec__.name)
    cfg.param_scheduler = SCHEDULE
    cfg.dump(path)
    return path


def one_run(way: str, folder: Path, options: list, config, name: str) -> dict:
    """Train; returns how it ended and what it left."""
    result = tool(
        'train', config, work_dir=folder, options=options, check=False
    )
    lines = [x for x in result.stdout.splitlines() if 'not finite' in x]
    found = Path(find_checkpoint(folder))
    broken = [
        path.name for path in folder.glob('*.pth') if not_finite(weights(path))
    ]
    return dict(
        way=way,
        status=result.returncode,
        stopped=result.returncode == 3 and 'Traceback' not in result.stdout,
        image_named=name in lines[0],
        message=lines[-1][lines[-1].index('step ') :].replace(
            f'{folder.parent}/', ''
        ),
        last_good=found.name,
        broken_checkpoints=broken,
    )


def main():
    os.environ['PYTHONPATH'] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_detection_split(root / 'detection', 'train', 10, seed=0)
        draw_detection_split(root / 'detection', 'val', 4, seed=1)
        images = sorted((root / 'detection/train').iterdir())
        options = [
            f'data_root={root}/detection',
            'model.backbone.init_cfg=None',
            'train_dataloader.batch_size=2',
            'train_cfg.max_epochs=3',
            'train_cfg.val_interval=9',
            'default_hooks.checkpoint.interval=1',
            'step_checkpoints=2',
        ]
        spoilt = spoilt_config(root / 'spoilt.py', images[3].name)
        clean = spoilt_config(root / 'clean.py', 'none')
        results = []
        for way, config, name, more in (
            ('NaN pixel', spoilt, images[3].name, []),
            (
                'NaN pixel, none skipped',
                spoilt,
                images[3].name,
                ['broken_numbers.max_skipped=0'],
            ),
            ('infinite rate', clean, '.png', ['param_scheduler.0.gamma=inf']),
        ):
            run = root / str(len(results))
            results.append(one_run(way, run, [*options, *more], config, name))
            print(results[-1], flush=True)
    goals = dict(stopped=2, image_named=3, last_good=3)
    keep('broken_numbers', results, goals)


if __name__ == '__main__':
    main()
