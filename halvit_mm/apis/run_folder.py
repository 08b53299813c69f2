"""One training a folder."""

import os
import socket
import time
from pathlib import Path
from typing import IO, Dict

from mmengine.logging import print_log

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_locks: Dict[str, IO] = {}  # held until the process ends


def lock_folder(folder: str) -> None:
    """Keep other trainings out of a folder while this process runs.

    Only the first process of a distributed training does.

    Args:
        folder: Working folder; it is made.

    Raises:
        ValueError: If another training runs there, which is named, or it
            cannot be written to.
    """
    path = Path(folder, '.lock')
    # Before the process group is there, only the launcher tells the rank.
    rank = os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))
    # Closing the file a second time would give the lock back.
    if rank != '0' or str(path.resolve()) in _locks:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open('a+')
    except OSError as error:
        raise ValueError(
            f'{folder} cannot be written to ({error.strerror}): name another '
            'folder with --work-dir'
        ) from error
    if fcntl is None:
        return
    try:
        # Not flock(): forked loader workers would keep that one.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or 'another process'
        file.close()
        raise ValueError(
            f'a training already writes to {folder}: {holder}. Name another '
            'folder with --work-dir, or end that one'
        ) from None
    except OSError as error:
        print_log(f'{folder} cannot be locked: {error}', logger='current')
        return
    file.truncate(0)
    now = time.strftime('%Y-%m-%d %H:%M:%S')
    file.write(f'process {os.getpid()} on {socket.gethostname()} since {now}')
    file.flush()
    _locks[str(path.resolve())] = file
