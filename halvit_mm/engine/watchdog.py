"""A run that stands still says where, and ends."""

import contextlib
import faulthandler
import multiprocessing
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Optional

from mmengine.device import get_device
from mmengine.hooks import Hook

#: Exit status of a process that stood still.
HUNG_STATUS = 4
_SECONDS_TO_TELL = 60  # then it ends untold: disk or terminal hang as well


class Watchdog(Hook):
    """Ends this process when it has shown no sign of life for some minutes.

    Signs are steps, epochs and savings, and, where work has no known length
    (before the first step, evaluating, saving), the time that the process
    computes; on the CPU always, but who waits for a GPU seems to compute.
    Minutes are those in which it may run: a job that is suspended and goes on
    is none that hangs. What holds Python's lock is not seen.

    Args:
        minutes: How long it may stand still.
        runner: Names the process and the folder for the stacks.
    """

    priority = 'VERY_HIGH'

    def __init__(self, minutes: float, runner: Any) -> None:
        self.seconds = 60 * minutes
        self._runner = runner
        self._on_cpu = get_device() == 'cpu'
        self._signs, self._last, self._computes = 0, 'before the start', True
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._end.set()
        self._thread.join()

    def _sign(self, last: str, computes: bool = False) -> None:
        self._last, self._computes = last, computes or self._on_cpu
        self._signs += 1

    def _before_iter(self, runner, batch_idx, data_batch=None, mode='train'):
        self._sign(f'at the start of step {batch_idx + 1} ({mode})')

    def _after_iter(
        self, runner, batch_idx, data_batch=None, outputs=None, mode='train'
    ):
        last = f'at the end of step {batch_idx + 1} ({mode})'
        self._sign(last, computes=mode != 'train')  # an evaluation may follow

    def _after_epoch(self, runner, mode='train'):
        self._sign(f'at the end of an epoch ({mode})')

    def before_save_checkpoint(self, runner, checkpoint):
        """A checkpoint of any size is written next."""
        self._sign('before a checkpoint was written', computes=True)

    def _watch(self) -> None:
        pause = min(self.seconds / 10, 10)
        still, signs, used = 0.0, 0, time.process_time()
        while not self._end.wait(pause):
            before, used = used, time.process_time()
            computes = self._computes and used - before > pause / 10
            if computes or signs != self._signs:
                still, signs = 0.0, self._signs
            else:
                still += pause
            if still >= self.seconds:
                self._tell_and_end()

    def _tell_and_end(self) -> None:
        timer = threading.Timer(_SECONDS_TO_TELL, os._exit, [HUNG_STATUS])
        timer.start()
        children = multiprocessing.active_children()
        path = Path(
            self._runner.log_dir, f'stacks_rank{self._runner.rank}.txt'
        )
        text = (
            f'process {self._runner.rank} of {self._runner.world_size} on '
            f'{socket.gethostname()} stands still: no sign of life for '
            f'{self.seconds / 60:g} minutes, the last one {self._last}. Its '
            f'loader processes: {_states(children)}. It ends with status '
            f'{HUNG_STATUS}; --resume goes on from the last checkpoint. Where '
            'it stands, also in '
            f'{path} (watchdog_minutes=... waits longer, None for ever):\n'
        )
        sys.stderr.write(text)
        sys.stderr.flush()
        faulthandler.dump_traceback(sys.__stderr__)
        with path.open('w') as file:
            file.write(text)
            file.flush()
            faulthandler.dump_traceback(file)
        for child in children:
            child.kill()
        os._exit(HUNG_STATUS)


def _states(children: list) -> str:
    """Process ids and states: S sleeps, R runs, D waits for a disk, ..."""
    found = []
    for child in children:
        with contextlib.suppress(OSError):  # no /proc, or it has just ended
            text = Path(f'/proc/{child.pid}/stat').read_text()
            state = text.rpartition(')')[2].split()[0]
            found.append(f'{child.pid} {dict(T="stopped").get(state, state)}')
    return ', '.join(found) or 'none'


@contextlib.contextmanager
def watched(runner: Any, minutes: Optional[float]) -> Iterator[None]:
    """Watch a run inside of a ``with`` statement.

    Args:
        runner: Gets a hook.
        minutes: How long it may stand still, or None for ever.

    Raises:
        ValueError: If the minutes are not positive.
    """
    if minutes is None:
        yield
        return
    if minutes <= 0:
        raise ValueError(f'watchdog_minutes={minutes}: positive, or None')
    watchdog = Watchdog(minutes, runner)
    runner.register_hook(watchdog)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()
