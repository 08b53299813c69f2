"""Fill a disk of 20 MB with checkpoints, make space, and resume.

It mounts the disk, for which `unshare -rm` gives the right. Other files take
a random part of the disk first, so that it is full at another byte each time.
Results are kept in docs/soak/full_disk.json.
"""

import random
import subprocess
import tempfile
from pathlib import Path

from halvit_mm.checkpoint import check_whole, find_checkpoint
from halvit_mm.datasets.shapes import draw_folder_split

from ..tools.conftest import CLASSIFIER, tool
from ..tools.trainings import equal, options_of, weights
from .results import keep

RUNS, EPOCHS, CHECKPOINT = 5, 8, 5_000_000


def mount(folder: Path, options: str) -> None:
    """Mount a disk in memory, or change it."""
    command = ('mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder)
    subprocess.run(command, check=True)


def one_disk(disk: Path, options: list, taken: int) -> dict:
    """Train until the disk is full, then to the end with more space."""
    disk.mkdir()
    mount(disk, 'size=20m')
    Path(disk, 'others').write_bytes(bytes(taken))
    folder = disk / 'run'
    arguments = dict(work_dir=folder, options=options, check=False)
    full = tool('train', CLASSIFIER, **arguments)
    found = Path(find_checkpoint(folder))
    check_whole(found)
    left = sorted(path.name for path in folder.glob('*.pth*'))
    mount(disk, 'remount,size=80m')
    resumed = tool('train', CLASSIFIER, '--resume', **arguments)
    last = folder / f'epoch_{EPOCHS}.pth'
    result = dict(
        taken=taken,
        status=full.returncode,
        error=full.stdout.splitlines()[-1].replace(f'{disk}/', ''),
        one_sentence='cannot be written (' in full.stdout.splitlines()[-1]
        and 'Traceback' not in full.stdout,
        files=left,
        half_files=sum(name.endswith('.part') for name in left),
        previous=found.name,
        finished=resumed.returncode == 0,
        weights=last.is_file() and weights(last),
    )
    subprocess.run(['umount', disk], check=True)
    return result


def main():
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        draw_folder_split(root / 'classification', 'train', 40, seed=2)
        draw_folder_split(root / 'classification', 'val', 8, seed=3)
        options = [
            *options_of(root, EPOCHS),
            'train_dataloader.batch_size=8',
            'default_hooks.checkpoint.interval=1',
            'default_hooks.checkpoint.max_keep_ckpts=-1',
            'step_checkpoints=2',
            # 5 MB a checkpoint
            'model.backbone.arch.embed_dims=128',
            'model.backbone.arch.num_heads=2',
            'model.backbone.arch.feedforward_channels=512',
            'model.head.in_channels=128',
        ]
        tool('train', CLASSIFIER, work_dir=root / 'whole', options=options)
        whole = weights(root / f'whole/epoch_{EPOCHS}.pth')
        results = []
        for number in range(RUNS):
            taken = rng.randint(0, CHECKPOINT)
            result = one_disk(root / f'disk_{number}', options, taken)
            found = result.pop('weights')
            result['same_weights'] = bool(found) and equal(found, whole)
            results.append(result)
            print(result, flush=True)
    goals = dict.fromkeys(['one_sentence', 'finished', 'same_weights'], RUNS)
    keep('full_disk', results, dict(goals, half_files=0))


if __name__ == '__main__':
    main()
