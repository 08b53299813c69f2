"""Checkpoints between epochs, every so many steps and when a run must end."""

import os
import signal
import threading
from pathlib import Path
from typing import Any, Dict, Optional

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook

from ..checkpoint import atomic_write, find_checkpoint, not_finite
from ..registry import HOOKS
from .checkpoint_hook import AtomicRunner, unwrap

#: Exit status of a training that was told to end and has saved its state:
#: "temporary failure, try again".
PREEMPTED_STATUS = 75

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@HOOKS.register_module()
class StepCheckpointHook(Hook):
    """Saves every so many steps, and when a signal asks the run to end.

    On SIGTERM, SIGUSR1 or SIGINT all processes agree at the next step, save
    together and exit with :data:`PREEMPTED_STATUS`; a second signal ends the
    process at once. The checkpoint, ``step_N.pth``, is for ``--resume``; of
    these the latest alone is kept, and none at the end of the training.

    Args:
        interval: Steps between two checkpoints; None saves on signals only.
    """

    priority = 'VERY_LOW'  # after all that changes the state

    def __init__(self, interval: Optional[int] = 1000) -> None:
        self.interval = interval
        self._signal: Optional[int] = None
        self._process = os.getpid()
        self._pending: Any = None  # the last step's question to all
        self._before: Dict[int, Any] = {}  # what listened to the signals

    def before_train(self, runner: Any) -> None:
        """Listen to the signals from now on; our runner's workers do not."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)

    def after_train(self, runner: Any) -> None:
        """Leave the signals to those who had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._pending is not None:
            self._pending[0].wait()
        if is_main_process():
            # unless no later checkpoint is whole and finite
            self._remove_others(runner, find_checkpoint(runner.work_dir))

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a worker that has just begun
            if number == signal.SIGTERM:
                os._exit(0)
            return
        self._signal = number
        signal.signal(number, signal.SIG_DFL)

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Save where it is time."""
        done = runner.iter + 1
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if done % counts:
            return  # gradients that are summed up are not saved
        if self._must_end():
            self._save(runner, done)
            self._exit(runner)
        is_last = done % len(runner.train_loop.dataloader) == 0
        if self.interval and done % self.interval == 0 and not is_last:
            self._save(runner, done)

    def after_val_iter(self, runner: Any, *args, **kwargs) -> None:
        """Save between two epochs, too.

        Nothing changes now. The others may wait for results of the first
        process, which saves; its launcher ends them after it.
        """
        if self._signal is None or runner.train_loop is None:
            return
        if not is_main_process():
            return
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):  # it evaluates the averages
                hook._swap_ema_parameters()
        self._save(runner, runner.iter)
        self._exit(runner, together=False)

    def _must_end(self) -> bool:
        """Whether any process has got a signal, as all know at this step.

        The answer to the question of the step before is read, for which
        nothing has to wait.
        """
        if get_world_size() == 1:
            return self._signal is not None
        pending = self._pending
        device = 'cuda' if dist.get_backend() == 'nccl' else 'cpu'
        flag = torch.tensor(int(self._signal is not None), device=device)
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, async_op=True)
        self._pending = work, flag
        if pending is None:
            return False
        pending[0].wait()
        return bool(pending[1])

    def _save(self, runner: Any, done: int) -> None:
        folder = Path(runner.work_dir)
        name = f'step_{done}.pth'
        AtomicRunner(runner).save_checkpoint(
            str(folder),
            name,
            meta=dict(epoch=runner.epoch, iter=done),
            by_epoch=False,
        )
        if is_main_process():
            with atomic_write(folder / 'last_checkpoint') as part:
                part.write_text(name)
            # The one before may be the last with finite weights.
            if not not_finite(unwrap(runner.model).state_dict()):
                self._remove_others(runner, folder / name)
        runner.logger.info(f'saved {name}')

    def _remove_others(self, runner: Any, kept: Any) -> None:
        for path in Path(runner.work_dir).glob('step_*.pth'):
            if str(path) != str(kept):
                path.unlink()

    def _exit(self, runner: Any, together: bool = True) -> None:
        name = signal.Signals(self._signal).name if self._signal else 'others'
        runner.logger.warning(
            f'told to end by {name}: the state is saved, --resume goes on; '
            f'exit status {PREEMPTED_STATUS}'
        )
        if together and get_world_size() > 1:
            dist.barrier()
        raise SystemExit(PREEMPTED_STATUS)
