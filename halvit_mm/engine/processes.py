"""Signals of the processes of a training, and their end with their parent."""

import ctypes
import multiprocessing.queues
import os
import shutil
import signal
import sys
from functools import partial
from typing import Any, Callable, Optional

from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def die_with_parent() -> None:
    """Let this process be killed when the one that started it ends."""
    if not sys.platform.startswith('linux'):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended in between
        os.kill(os.getpid(), signal.SIGKILL)


def prepare_workers(loader: DataLoader) -> None:
    """Let the workers of a data loader end with this process, not before.

    Terminals and launchers signal a whole group of processes. The main
    process saves a checkpoint then, for which it needs its workers: they
    leave its group, and end when it tells them to, or with it. Instead of a
    batch that they cannot send, as where /dev/shm is full, they send an error.

    Args:
        loader: It has no workers yet.
    """
    loader.worker_init_fn = partial(_prepare_worker, loader.worker_init_fn)


def _prepare_worker(then: Optional[Callable], number: int) -> None:
    if then is not None:
        then(number)

    def tell(queue: Any, error: Exception, batch: Any) -> None:
        queue.put((batch[0], _told(error, number)))

    # Python would drop the batch, for which the main process waits for ever.
    multiprocessing.queues.Queue._on_queue_feeder_error = tell
    os.setpgid(0, 0)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def _told(error: Exception, worker: int) -> ExceptionWrapper:
    """The error of a batch that is not sent, as PyTorch sends errors."""
    try:
        if 'unable to allocate shared memory' in str(error):
            size = shutil.disk_usage('/dev/shm').total / 1e6
            raise OSError(
                f'/dev/shm, {size:,.1f} MB, has no space for a batch of a '
                'loader process: make it larger (docker run --shm-size=8g), '
                'or load in the main process (train_dataloader.num_workers=0, '
                'also of val_dataloader and test_dataloader)'
            ) from None
        raise error
    except Exception:
        where = f'in DataLoader worker process {worker}'
        return ExceptionWrapper(where=where)
