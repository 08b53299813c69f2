"""Pictures of a training while it runs."""

import math
from pathlib import Path
from typing import Any, Callable

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.visualization import LocalVisBackend

from ..registry import HOOKS
from ..visualization import draw_curves, draw_sample


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draws curves and some detections at each evaluation of a training.

    They are ``<work_dir>/curves.png``, which is drawn anew, and
    ``<work_dir>/samples/epoch_N/*.jpg``; the latter go to the visualizer's
    other back ends, such as TensorBoard, as well. The images are spread over
    the validation set, and the same each time. What cannot be drawn is
    warned of and ends nothing.

    Args:
        samples: Number of images; of classifiers none are drawn.
        curves: Whether curves are drawn.
    """

    priority = 'LOW'  # after the scores were logged

    def __init__(self, samples: int = 4, curves: bool = True) -> None:
        self.samples = samples
        self.curves = curves
        self._left = 0

    def before_val_epoch(self, runner: Any) -> None:
        """Start with the first image."""
        self._left = self.samples

    @master_only
    def after_val_iter(
        self, runner: Any, batch_idx: int, outputs: Any = (), **_
    ) -> None:
        """Draw images of this batch if it is one of the spread ones."""
        batches = len(runner.val_dataloader)
        if self._left <= 0 or batch_idx % max(1, batches // self.samples):
            return
        number = min(self._left, math.ceil(self.samples / batches))
        for sample in outputs[:number]:
            self._left -= 1
            if 'pred_instances' in sample:
                self._try(self._draw_sample, runner, sample)

    @master_only
    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Draw the curves up to here."""
        if self.curves:
            self._try(self._draw_curves, runner)

    def after_train(self, runner: Any) -> None:
        """Draw the curves of the whole run."""
        self.after_val_epoch(runner)

    def _draw_sample(self, runner: Any, sample: Any) -> None:
        stem = Path(sample.img_path).stem
        folder = Path(runner.work_dir) / 'samples' / f'epoch_{runner.epoch}'
        picture = draw_sample(
            runner.visualizer, sample, str(folder / f'{stem}.jpg')
        )
        for backend in runner.visualizer._vis_backends.values():
            if not isinstance(backend, LocalVisBackend):
                backend.add_image(f'samples/{stem}', picture, runner.iter)

    def _draw_curves(self, runner: Any) -> None:
        out = Path(runner.work_dir) / 'curves.png'
        draw_curves(runner.work_dir, str(out))

    def _try(self, draw: Callable, runner: Any, *args: Any) -> None:
        try:
            draw(runner, *args)
        except (OSError, ValueError) as error:
            runner.logger.warning(f'a picture is not drawn: {error}')
