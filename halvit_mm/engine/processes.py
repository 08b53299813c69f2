"""Signals of the processes of a training, and their end with their parent."""

import ctypes
import os
import signal
import sys
from functools import partial
from typing import Callable, Optional

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
    leave its group, and end when it tells them to, or with it.

    Args:
        loader: It has no workers yet.
    """
    loader.worker_init_fn = partial(_prepare_worker, loader.worker_init_fn)


def _prepare_worker(then: Optional[Callable], number: int) -> None:
    if then is not None:
        then(number)
    os.setpgid(0, 0)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
