"""Stop parts of a training for good: it ends, tells where, and goes on.

A loader process, then one of two processes of a training is stopped by
SIGSTOP, and /dev/shm is too small for a batch, for which `unshare -rm` gives
the right to mount one. Results are kept in docs/soak/hangs.json.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from halvit_mm.datasets.shapes import draw_folder_split

from ..commands import run
from ..tools.conftest import CLASSIFIER, free_port
from ..tools.trainings import (
    equal,
    options_of,
    start,
    wait_until_gone,
    weights,
)
from .results import keep

EPOCHS, MINUTES = 5, 0.5
#: Until the watchdog looks, and the launcher has killed what is stopped.
LIMIT = 60 * MINUTES * 1.1 + 30 + 10
ONE = (sys.executable, 'tools/train.py', CLASSIFIER)
TWO = ('bash', 'tools/dist_train.sh', CLASSIFIER, 2)


def draw(root: Path) -> list:
    """Draw images; returns the options of a training with them."""
    draw_folder_split(root / 'classification', 'train', 40, seed=2)
    draw_folder_split(root / 'classification', 'val', 8, seed=3)
    return [
        *options_of(root, EPOCHS),
        'step_checkpoints=5',
        f'watchdog_minutes={MINUTES}',
    ]


def children(process: int) -> list:
    """Ids of the processes that a process has started."""
    command = ('pgrep', '-P', str(process))
    found = subprocess.run(command, capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


def ranks(folder: Path) -> list:
    """Ranks that have left their stacks."""
    return sorted(path.stem[-1] for path in folder.glob('*/stacks_rank*.txt'))


def one_stop(way: str, folder: Path, command: tuple, options: list) -> dict:
    """Stop a part of a training, and resume it."""
    os.environ['PORT'] = str(free_port())
    process = start(command, folder, options)
    rank = process.pid
    if command == TWO:  # the script has started the launcher
        rank = children(children(process.pid)[0])[0]
    stopped = rank if way == 'process' else children(rank)[0]
    os.kill(stopped, signal.SIGSTOP)
    begin = time.monotonic()
    output = process.communicate(timeout=4 * LIMIT)[0]
    wait_until_gone(folder)
    seconds = time.monotonic() - begin
    told = [x for x in output.splitlines() if 'stands still' in x]
    rest = ('--work-dir', folder, '--cfg-options', *options)
    run(*command, '--resume', 'auto-or-new', *rest, PORT=str(free_port()))
    return dict(
        stopped=way,
        processes=1 if command == ONE else 2,
        status=process.returncode,
        ended=process.returncode == 4,
        seconds=round(seconds, 1),
        in_time=seconds < LIMIT,
        stacks_of=ranks(folder),
        messages=[line.replace(str(folder), 'RUN') for line in told],
        named=any('stopped' in line for line in told),
        weights=weights(folder / f'epoch_{EPOCHS}.pth'),
    )


def full_shm(folder: Path, options: list) -> dict:
    """Train where /dev/shm has space for no batch."""
    tmpfs = ('mount', '-t', 'tmpfs', '-o', 'size=100k', 'tmpfs', '/dev/shm')
    subprocess.run(tmpfs, check=True)
    begin = time.monotonic()
    rest = ('--work-dir', folder, '--cfg-options', *options)
    result = run(*ONE, *rest, 'train_dataloader.batch_size=8', check=False)
    wait_until_gone(folder)
    subprocess.run(('umount', '/dev/shm'), check=True)
    line = result.stdout.splitlines()[-1]
    return dict(
        stopped='none, /dev/shm is full',
        status=result.returncode,
        one_sentence='--shm-size' in line and 'Traceback' not in result.stdout,
        seconds=round(time.monotonic() - begin, 1),
        messages=[line],
    )


def main():
    results = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        options = draw(root)
        for command in (ONE, TWO):
            batch = f'train_dataloader.batch_size={3 - (command == TWO)}'
            settings = [*options, batch]
            whole = root / f'whole{len(results)}'
            rest = ('--work-dir', whole, '--cfg-options', *settings)
            run(*command, *rest, PORT=str(free_port()))
            whole = weights(whole / f'epoch_{EPOCHS}.pth')
            for way in ('loader process', 'process')[: 1 + (command == TWO)]:
                folder = root / str(len(results))
                result = one_stop(way, folder, command, settings)
                result['same_weights'] = equal(result.pop('weights'), whole)
                results.append(result)
                print(result, flush=True)
        results.append(full_shm(root / 'shm', options))
        print(results[-1], flush=True)
    goals = dict.fromkeys(['ended', 'in_time', 'stacks_of', 'same_weights'], 3)
    keep('hangs', results, dict(goals, named=2, one_sentence=1))


if __name__ == '__main__':
    main()
