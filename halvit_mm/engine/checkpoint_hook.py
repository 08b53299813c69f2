"""Checkpoints of which one is whole at any moment."""

import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any, List

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as HostCheckpointHook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper

from ..checkpoint import atomic_write, check_whole, not_finite
from ..registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(HostCheckpointHook):
    """mmengine's hook, which loses nothing when it is interrupted.

    A checkpoint is written beside its place, brought to the disk and checked
    before it gets its name; only then the older ones are removed. The last
    one with finite weights is never removed. ``last_checkpoint`` holds a name
    without a folder, so that a run can be moved. Scores that are NaN, or -1
    as COCO's averages over nothing, are never the best.

    Args:
        args, kwargs: As for ``mmengine.CheckpointHook``.
    """

    def before_train(self, runner: Any) -> None:
        """Prepare the folder; what an interrupted run left half is removed.

        Raises:
            OSError: If the disk has no space for two checkpoints.
        """
        super().before_train(runner)
        self._is_local = isinstance(self.file_backend, LocalBackend)
        if is_main_process() and self._is_local:
            for part in Path(self.out_dir).glob('*.pth.part'):
                part.unlink()
            check_space(self.out_dir, runner.model)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict):
        if not self._is_local:
            return super()._save_checkpoint_with_step(runner, step, meta)
        outdated = self._rotate(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = os.path.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        AtomicRunner(runner).save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            with atomic_write(Path(runner.work_dir, 'last_checkpoint')) as p:
                p.write_text(os.path.relpath(self.last_ckpt, runner.work_dir))
            for old in outdated:
                old = self.filename_tmpl.format(old)
                Path(self.out_dir, old).unlink(missing_ok=True)
        return None

    def _rotate(self, runner: Any, step: int) -> List[int]:
        """Note a new checkpoint.

        Args:
            runner: Its message hub keeps the notes for a resumed run.
            step: Epoch or iteration of the checkpoint.

        Returns:
            Steps of the checkpoints to remove once this one is written.
        """
        hub, outdated = runner.message_hub, []
        finite = self._is_finite(runner, step)
        before = hub.runtime_info.get('last_finite_ckpt')
        if finite:
            hub.update_info('last_finite_ckpt', step)
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            if finite and before not in (None, *self.keep_ckpt_ids):
                outdated.append(before)  # kept for want of a newer one
        return [old for old in outdated if finite or old != before]

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        """Save the best checkpoint, then remove the previous one."""
        scores = {
            name: None if is_undefined(score) else score
            for name, score in metrics.items()
        }
        if not self._is_local:
            return super()._save_best_checkpoint(runner, scores)
        backend = self.file_backend
        self.file_backend = later = _Later(backend)
        try:
            super()._save_best_checkpoint(AtomicRunner(runner), scores)
        finally:
            self.file_backend = backend
        new = [getattr(self, 'best_ckpt_path', None)]
        new += getattr(self, 'best_ckpt_path_dict', {}).values()
        for path in later.paths if is_main_process() else ():
            if path not in new:
                Path(path).unlink(missing_ok=True)
        return None

    def _is_finite(self, runner: Any, step: int) -> bool:
        names = not_finite(unwrap(runner.model).state_dict())
        if names:
            print_log(
                f'{self.filename_tmpl.format(step)}: {len(names)} weights are '
                f'not finite: {names[:3]}; '
                'the last checkpoint with finite ones is kept',
                logger='current',
                level=logging.ERROR,
            )
        return not names


class AtomicRunner:
    """A runner whose checkpoints get their names when they are whole."""

    def __init__(self, runner: Any) -> None:
        # The best checkpoint saves the last one again, within itself.
        is_atomic = isinstance(runner, AtomicRunner)
        self._runner = runner._runner if is_atomic else runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def save_checkpoint(self, out_dir: str, filename: str, **kwargs) -> None:
        """Save as the runner does, beside the place of the file first."""
        kwargs.pop('file_client_args', None)
        if not is_main_process():
            self._runner.save_checkpoint(out_dir, filename, **kwargs)
            return
        with atomic_write(Path(out_dir, filename)) as part:
            self._runner.save_checkpoint(out_dir, part.name, **kwargs)
            try:
                check_whole(part)
            except ValueError as error:
                raise OSError(str(error)) from error


class _Later:
    """A file backend that notes what is to be removed."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.paths: List[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def remove(self, path: str) -> None:
        self.paths.append(path)


def is_undefined(score: Any) -> bool:
    """Whether a score is NaN, or -1 as COCO's averages over nothing."""
    return isinstance(score, (int, float)) and (
        math.isnan(score) or score == -1
    )


def unwrap(model: Any) -> Any:
    """Return the model inside of a wrapper for several processes."""
    return model.module if is_model_wrapper(model) else model


def check_space(folder: str, model: Any) -> None:
    """Ask for the space of two checkpoints with the state of AdamW.

    Args:
        folder: Where checkpoints are written.
        model: Its parameters are counted three times, its buffers once.

    Raises:
        OSError: If the disk has less.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    needed = 2 * (3 * weights + buffers)
    os.makedirs(folder, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f'{folder} has {free / 1e6:,.0f} MB left, two checkpoints take '
            f'{needed / 1e6:,.0f} MB: make space, or name another folder '
            'with --work-dir'
        )
