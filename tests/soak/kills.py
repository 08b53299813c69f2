"""Kill a training at random moments, resume it, and compare its end.

`make soak` runs it; it is too long for `make test`. Results are kept in
docs/soak/kills.json.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from halvit_mm.checkpoint import check_whole, files, find_checkpoint
from halvit_mm.engine import StepCheckpointHook, make_exact

from ..engine.tiny_run import tiny_runner

ROOT = Path(__file__).parents[2]
EPOCHS = 100


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
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def weights(folder: Path) -> dict:
    """Read the final weights of a run."""
    path = folder / f'epoch_{EPOCHS}.pth'
    return torch.load(path, weights_only=True)['state_dict']


def one_kill(folder: Path, aimed: bool, rng: random.Random, length: float):
    """Kill a training once; returns what was found and how it ended."""
    moment = rng.randint(1, 900) if aimed else 0
    process = start(folder, moment)
    if not aimed:
        time.sleep(rng.uniform(0.6, 0.98) * length)
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
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--aimed', type=int, default=20)
    parser.add_argument('--out', default=ROOT / 'docs/soak/kills.json')
    parser.add_argument('--train', help=argparse.SUPPRESS)
    parser.add_argument('--moment', type=int, default=0)
    args = parser.parse_args()
    if args.train:
        train(args.train, args.moment)
        return
    rng, results = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        assert start(Path(folder, 'whole')).wait() == 0
        length = time.perf_counter() - begin
        whole = weights(Path(folder, 'whole'))
        for number in range(args.kills):
            run = Path(folder, str(number))
            result = one_kill(run, number < args.aimed, rng, length)
            same = result['finished'] and all(
                torch.equal(value, whole[name])
                for name, value in weights(run).items()
            )
            results.append(dict(result, same_weights=same))
            print(results[-1], flush=True)
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    killed = [r for r in results if r['killed']]
    summary = dict(
        kills=len(killed),
        aimed=sum(r['aimed'] for r in killed),
        resumed_in_the_middle=sum(bool(r['resumed_from']) for r in killed),
        finished=sum(r['finished'] for r in killed),
        same_weights=sum(r['same_weights'] for r in killed),
    )
    out.write_text(json.dumps(dict(summary=summary, runs=results), indent=1))
    print(summary)
    sys.exit(summary['same_weights'] != len(killed))


if __name__ == '__main__':
    main()
