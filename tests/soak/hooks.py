"""Time inside of this package's hooks in a training of the demo's detector.

All is done in one process, so that the seeding of samples counts, too, which
workers of a data loader do beside it. Results are kept in
docs/soak/hooks.json.
"""

import tempfile
import time
from pathlib import Path

import torch

from halvit_mm import engine
from halvit_mm.apis import load_config, train
from halvit_mm.apis.timing import device_name
from halvit_mm.datasets.shapes import draw_detection_split
from halvit_mm.engine import exact_resume

from ..commands import ROOT
from ..tools.conftest import DETECTOR
from .results import keep

STEPS, EPOCHS, BATCH = 12, 5, 8


class Clock:
    """Sums up the time inside of functions, once where they are nested."""

    def __init__(self):
        self.seconds, self._depth = 0.0, 0

    def timed(self, function):
        def wrapped(*args, **kwargs):
            self._depth += 1
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - begin

        return wrapped

    def timed_iterator(self, function):
        def wrapped(*args):
            step = self.timed(function(*args).__next__)
            try:
                while True:
                    yield step()
            except StopIteration:
                return

        return wrapped


def time_ours(clock: Clock) -> None:
    """Time all that this package does in a step beside the model."""
    for name in engine.__all__:
        for moment in ('before_train_iter', 'after_train_iter'):
            kind = getattr(engine, name)
            if name.endswith('Hook') and moment in vars(kind):
                setattr(kind, moment, clock.timed(vars(kind)[moment]))
    exact_resume.seed_generators = clock.timed(exact_resume.seed_generators)
    batches = exact_resume.ResumableBatchSampler
    batches.__iter__ = clock.timed_iterator(batches.__iter__)
    register = torch.optim.Optimizer.register_step_pre_hook
    torch.optim.Optimizer.register_step_pre_hook = lambda self, hook: register(
        self, clock.timed(hook)
    )


def main():
    whole, ours = Clock(), Clock()
    time_ours(ours)
    loop = engine.EpochBasedTrainLoop
    loop.run_epoch = whole.timed(loop.run_epoch)
    with tempfile.TemporaryDirectory() as name:
        data = Path(name, 'detection')
        draw_detection_split(data, 'train', STEPS * BATCH, seed=0)
        draw_detection_split(data, 'val', 8, seed=1)
        options = {
            'data_root': str(data),
            'model.backbone.init_cfg': None,
            'train_dataloader.num_workers': 0,
            'train_cfg.max_epochs': EPOCHS,
            'train_cfg.val_interval': 99,
            'default_hooks.checkpoint.interval': 99,
        }
        train(load_config(ROOT / DETECTOR, options, work_dir=f'{name}/run'))
    share = ours.seconds / whole.seconds
    result = dict(
        device=device_name(threads=torch.get_num_threads()),
        steps=EPOCHS * STEPS,
        ms_a_step=round(1e3 * whole.seconds / (EPOCHS * STEPS), 1),
        ms_in_hooks=round(1e3 * ours.seconds / (EPOCHS * STEPS), 3),
        share=round(share, 5),
        at_most_one_per_cent=share <= 0.01,
    )
    print(result)
    keep('hooks', [result], dict(at_most_one_per_cent=1))


if __name__ == '__main__':
    main()
