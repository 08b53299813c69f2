"""Runs that are not done yet: one process each, results kept as they come."""

import json
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import torch

__all__ = ['device_name', 'run_in_process', 'run_pending', 'share_cores']


def run_pending(
    runs: Sequence[NamedTuple],
    start: Callable[[NamedTuple], Dict],
    path: Path,
    jobs: int = 1,
    only: Optional[Sequence[str]] = None,
    log: Callable[[str], None] = print,
    after: Callable[[List[Dict]], None] = lambda results: None,
) -> List[Dict]:
    """Run what stands in no results yet.

    Args:
        runs: Each with ``key``, ``variant`` and ``title``.
        start: Makes the result of a run, with its ``key``.
        path: JSON file of the results, which can be carried to another
            machine; results of other keys stay in it.
        jobs: Runs at a time.
        only: Variants that are run, None for all of them.
        log: Told what goes on.
        after: Called with the results so far, at first and after each run.

    Returns:
        Results, in the order of the runs.

    Raises:
        RuntimeError: If a run fails; those beside it are finished and kept.
        ValueError: If ``only`` names an unknown variant.
    """
    variants = {run.variant for run in runs}
    unknown = set(only or ()) - variants
    if unknown:
        raise ValueError(
            f'no variants {sorted(unknown)}: choose of {sorted(variants)}'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.is_file() else []
    keys = [run.key for run in runs]
    others = [r for r in known if r['key'] not in keys]  # other settings
    done = {r['key']: r for r in known if r['key'] in keys}
    results = [
        dict(done[run.key], variant=run.variant)  # it may be renamed
        for run in runs
        if run.key in done
    ]
    after(results)
    stop = Event()  # after an error nothing new is started

    def begin(number: int, run: NamedTuple) -> Optional[Dict]:
        if stop.is_set():
            return None
        log(f'[{number}/{len(keys)}] {run.title}')
        try:
            return start(run)
        except BaseException:
            stop.set()
            raise

    def keep(result: Dict) -> None:
        results.append(result)
        results.sort(key=lambda result: keys.index(result['key']))
        text = json.dumps([*results, *others], indent=1)
        path.write_text(text + '\n')
        after(results)

    errors = []
    with ThreadPoolExecutor(jobs) as pool:
        started = [
            pool.submit(begin, number, run)
            for number, run in enumerate(runs, 1)
            if run.key not in done and run.variant in (only or variants)
        ]
        try:
            for future in as_completed(started):
                if error := future.exception():
                    errors.append(error)  # the others are kept first
                elif result := future.result():
                    keep(result)
        except BaseException:
            stop.set()
            raise
    if errors:
        raise errors[0]
    return results


def run_in_process(target: Callable, args: Sequence, folder: Path) -> float:
    """Run a function in a process of its own: nothing is left for the next.

    Args:
        target: Of a module.
        args: Its arguments.
        folder: Where it works, kept if it is interrupted.

    Returns:
        Seconds of all attempts, kept in ``seconds.json`` there.

    Raises:
        RuntimeError: If it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = time.time()
    process = multiprocessing.get_context('spawn').Process(
        target=target, args=args
    )
    process.start()
    process.join()
    path = folder / 'seconds.json'
    before = json.loads(path.read_text()) if path.is_file() else 0
    seconds = before + time.time() - start
    path.write_text(json.dumps(seconds))
    if process.exitcode:
        raise RuntimeError(
            f'a run ended with {process.exitcode}; what it left is in {folder}'
        )
    return seconds


def share_cores(jobs: int) -> None:
    """Divide the cores, or each run would wait for the others.

    Args:
        jobs: Runs at a time.
    """
    if jobs > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))


def device_name() -> str:
    """Returns: What this machine computes on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{os.cpu_count()} CPU cores'
