"""Kill a training at random moments, resume it, and compare its end.

`make soak` runs it; it is too long for `make test`. Results are kept in
docs/soak/kills.json.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from halvit_mm.checkpoint import check_whole, files, find_checkpoint
from halvit_mm.engine import StepCheckpointHook, make_exact

from ..engine.tiny_run import tiny_runner
from ..tools.trainings import equal, weights
from .results import keep

KILLS, AIMED, EPOCHS = 50, 20, 100


def train(folder: str, moment: int) -> None:
    """Train, or go on, and die at a moment of writing, if one is given."""
    calls = 0

    def wrap(inner):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*args, **kwargs)

        return wrapped

    for name in ('open', 'fsync', 'replace'):
        setattr(files.os, name, wrap(getattr(os, name)))
    found = find_checkpoint(folder)
    runner = tiny_runner(
        folder,
        dict(interval=1, max_keep_ckpts=1),
        EPOCHS,
        resume=found is not None,
        load_from=found,
    )
    make_exact(runner)
    runner.register_hook(StepCheckpointHook(interval=3))
    runner.train()


def start(folder: Path, moment: int = 0) -> subprocess.Popen:
    """Start :func:`train` in a process of its own."""
    command = [sys.executable, '-m', 'tests.soak.kills', '--train', folder]
    return subprocess.Popen(
        [*map(str, command), '--moment', str(moment)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for_epoch(folder: Path, process: subprocess.Popen, epoch: int):
    """Wait for the checkpoint of an epoch, or a later one."""
    names = {f'epoch_{i}.pth' for i in range(epoch, EPOCHS + 1)}
    while process.poll() is None:
        if names & {path.name for path in folder.glob('epoch_*.pth')}:
            return
        time.sleep(0.005)


def one_kill(folder: Path, aimed: bool, rng: random.Random):
    """Kill a training once; returns what was found and how it ended."""
    moment = rng.randint(1, 900) if aimed else 0
    process = start(folder, moment)
    if not aimed:
        wait_for_epoch(folder, process, rng.randint(1, EPOCHS * 9 // 10))
        time.sleep(rng.uniform(0, 0.1))  # some steps and savings
        process.kill()
    process.communicate()
    killed = process.returncode == -signal.SIGKILL
    found = find_checkpoint(str(folder))
    if found:
        check_whole(Path(found))
    second = start(folder)
    error = second.communicate()[1].decode()[-500:]
    return dict(
        aimed=aimed,
        moment=moment,
        killed=killed,
        resumed_from=found and Path(found).name,
        finished=second.returncode == 0,
        error='' if second.returncode == 0 else error,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--train', help=argparse.SUPPRESS)
    parser.add_argument('--moment', type=int, default=0)
    args = parser.parse_args()
    if args.train:
        train(args.train, args.moment)
        return
    rng, results = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        last = f'epoch_{EPOCHS}.pth'
        assert start(Path(folder, 'whole')).wait() == 0
        whole = weights(Path(folder, 'whole', last))
        for number in range(KILLS):
            run = Path(folder, str(number))
            result = one_kill(run, number < AIMED, rng)
            same = result['finished'] and equal(weights(run / last), whole)
            results.append(dict(result, same_weights=same))
            print(results[-1], flush=True)
    goals = dict.fromkeys(['killed', 'finished', 'same_weights'], KILLS)
    keep('kills', results, dict(aimed=AIMED, **goals))


if __name__ == '__main__':
    main()
