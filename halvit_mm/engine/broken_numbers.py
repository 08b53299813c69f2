"""Steps whose gradients are not finite are skipped, and soon end the run."""

import logging
import math
from typing import Any, List, Optional

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log

from ..checkpoint import find_checkpoint, load_content, not_finite
from ..registry import HOOKS
from .checkpoint_hook import unwrap

#: Exit status of the tools where a training ends for broken numbers.
BROKEN_STATUS = 3


class BrokenNumbersError(RuntimeError):
    """Too many steps in a row had losses or gradients that are not finite."""


@HOOKS.register_module()
class BrokenNumbersHook(Hook):
    """Keeps NaN and infinity out of weights and checkpoints.

    Before the optimiser steps, the norm of the gradients is looked at: that
    of clipping where there is clipping, else it is computed. Processes share
    their gradients, so all decide alike. A step that is not finite changes
    nothing; its images and loss parts are named. Overflows of a GradScaler,
    which skips such steps itself, do not count.

    Args:
        max_skipped: Steps in a row that are skipped; one more ends the run.
        roll_back: Whether the weights and the optimiser of the last finite
            checkpoint are loaded instead, once between two checkpoints.
    """

    priority = 'VERY_HIGH'

    def __init__(self, max_skipped: int = 5, roll_back: bool = False) -> None:
        self.max_skipped = max_skipped
        self.roll_back = roll_back
        self._is_broken = False
        self._in_a_row = 0
        self._rolled_back_to: Optional[str] = None

    def before_train(self, runner: Any) -> None:
        """Look at the gradients before each step of the optimiser."""
        wrapper = runner.optim_wrapper
        optimizer = getattr(wrapper, 'optimizer', None)
        if optimizer is None:
            runner.logger.warning(
                'NaN and infinity are not looked for: the run has several '
                'optimisers'
            )
            return
        clips = getattr(wrapper, 'clip_grad_kwargs', None)

        def look(optimizer, args, kwargs) -> None:
            if clips:
                found = runner.message_hub.get_scalar('train/grad_norm')
                norm = found.current()
            else:
                norm = float(_norm(optimizer))
            self._is_broken = not math.isfinite(norm)
            if self._is_broken:
                # Optimisers leave parameters without gradients alone.
                optimizer.zero_grad(set_to_none=True)

        optimizer.register_step_pre_hook(look)

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Name what was skipped.

        Raises:
            BrokenNumbersError: If too many steps in a row were.
        """
        if not self._is_broken:
            self._in_a_row = 0
            return
        self._is_broken = False
        self._in_a_row += 1
        parts = [
            name
            for name, value in (outputs or {}).items()
            if isinstance(value, torch.Tensor)
            and not torch.isfinite(value).all()
        ]
        what = f'losses {parts}' if parts else 'gradients'
        text = (
            f'step {runner.iter + 1}: {what} not finite, skipped '
            f'({self._in_a_row} in a row, at most {self.max_skipped}); '
            f'images: {_images_of(data_batch)}'
        )
        print_log(text, logger='current', level=logging.ERROR)
        model = unwrap(runner.model)
        broken = not_finite(model.state_dict())
        if self._in_a_row > self.max_skipped or broken:
            self._end(runner, model, broken, text)

    def _end(self, runner, model, broken: List[str], text: str) -> None:
        path = find_checkpoint(runner.work_dir)
        if self.roll_back and path not in (None, self._rolled_back_to):
            content, _ = load_content(path)
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # it exchanges them in files
                    hook._swap_ema_state_dict(content)
                    hook.ema_model.load_state_dict(content['ema_state_dict'])
            model.load_state_dict(content['state_dict'])
            runner.optim_wrapper.load_state_dict(content['optimizer'])
            self._rolled_back_to, self._in_a_row = path, 0
            print_log(
                f'back to the weights and the optimiser of {path}',
                logger='current',
                level=logging.ERROR,
            )
            return
        state = f'; not finite: {broken[:3]}' if broken else ''
        raise BrokenNumbersError(
            f'{text}{state}. The last good checkpoint is {path}: look at the '
            'images, lower the learning rate, or clip gradients '
            '(optim_wrapper.clip_grad.max_norm), then --resume'
        )


def _norm(optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Norm of all gradients, a number on their device."""
    norms = [
        torch.linalg.vector_norm(p.grad)
        for group in optimizer.param_groups
        for p in group['params']
        if p.grad is not None
    ]
    if not norms:
        return torch.zeros(())
    return torch.stack([norm.float() for norm in norms]).norm()


def _images_of(data_batch: Any) -> List[str]:
    """Names of the images of a batch, as far as it tells them."""
    samples = data_batch.get('data_samples') if data_batch else None
    names = []
    for sample in samples or []:
        meta = getattr(sample, 'metainfo', {})
        names.append(str(meta.get('img_path', meta.get('img_id', '?'))))
    return names
