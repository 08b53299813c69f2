"""End one training of two processes again and again, and resume it.

Ten times each by SIGTERM, SIGUSR1 and SIGINT to tools/dist_train.sh and its
group, as a terminal or a scheduler sends them, then ten times by SIGKILL of
the script and of the launcher. The end of the run is that of an undisturbed
one. Results are kept in docs/soak/signals.json.
"""

import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from halvit_mm.checkpoint import check_whole, find_checkpoint
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

EPOCHS = 20  # of 20 steps
COMMAND = ('bash', 'tools/dist_train.sh', CLASSIFIER, 2)
RESUMED = (*COMMAND, '--resume', 'auto-or-new')
WAYS = ['SIGTERM', 'SIGUSR1', 'SIGINT'] * 10
WAYS += ['SIGKILL of the script', 'SIGKILL of the launcher'] * 5


def end(way: str, process: subprocess.Popen) -> None:
    """Send a signal."""
    if way.endswith('launcher'):
        command = ('pkill', '-KILL', '-P', str(process.pid))
        subprocess.run(command, check=True)
    elif way.endswith('script'):
        process.kill()
    else:
        os.killpg(process.pid, getattr(signal, way))


def one_end(folder: Path, way: str, options: list, pause: float) -> dict:
    """Resume the run and end it once."""
    os.environ['PORT'] = str(free_port())
    before = {path.name for path in folder.glob('*.pth')}
    process = start(RESUMED, folder, options, steps=1)
    time.sleep(pause)
    begin = time.monotonic()
    end(way, process)
    output = process.communicate(timeout=60)[0]
    wait_until_gone(folder, 60)
    seconds = time.monotonic() - begin
    found = Path(find_checkpoint(folder) or folder)
    if found != folder:
        check_whole(found)
    return dict(
        way=way,
        status=process.returncode,
        # The processes wait for each other before they exit with 75.
        saved=process.returncode == 75 and found.name not in before,
        killed=process.returncode in (-9, 137),
        checkpoint=found.name,
        seconds=round(seconds, 1),
        gone=seconds < 30,
        output='' if process.returncode == 75 else output[-500:],
    )


def main():
    # Ignored in the background of a shell, it would be so in the training.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        draw_folder_split(root / 'classification', 'train', 40, seed=2)
        draw_folder_split(root / 'classification', 'val', 8, seed=3)
        options = [
            *options_of(root, EPOCHS),
            'train_dataloader.batch_size=1',
            'train_cfg.val_interval=1',
            'step_checkpoints=5',
        ]
        rest = ('--cfg-options', *options)
        whole, parts = root / 'whole', root / 'parts'
        run(*COMMAND, '--work-dir', whole, *rest, PORT=str(free_port()))
        results = []
        for way in WAYS:
            results.append(one_end(parts, way, options, rng.uniform(0, 1)))
            print(results[-1], flush=True)
        run(*RESUMED, '--work-dir', parts, *rest, PORT=str(free_port()))
        ends = [
            weights(path / f'epoch_{EPOCHS}.pth') for path in (whole, parts)
        ]
        results.append(dict(way='none', same_weights=equal(*ends)))
    goals = dict(saved=30, killed=10, gone=len(WAYS), same_weights=1)
    keep('signals', results, goals)


if __name__ == '__main__':
    main()
