"""Runs that are not done yet: a few commands each, results kept as they come.

A training is ``train.py``, a compression ``compress.py`` and ``test.py``, each
in a process of its own.
"""

import copy
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import Callable, Dict, List, Optional, Sequence

import torch

from halvit_mm.apis.model_info import build_counted, count_parameters
from halvit_mm.apis.timing import device_name
from halvit_mm.engine import PeakToFinalHook

from .plan import ORIGINAL, ROOT, Run, Study


def run_study(
    study: Study,
    work_dir: Path,
    path: Path,
    jobs: int = 1,
    only: Optional[Sequence[str]] = None,
    log: Callable[[str], None] = print,
    after: Callable[[List[Dict]], None] = lambda results: None,
) -> List[Dict]:
    """Run what has no result yet.

    A run that was interrupted goes on where it stopped.

    Args:
        study: What to run.
        work_dir: Folder for checkpoints and logs.
        path: JSON file of the results, which other machines can go on with;
            results of other settings stay in it.
        jobs: Runs at a time, which share the cores.
        only: The variants that are run, by default all.
        log: Called with lines that say what is going on.
        after: Called with the results so far, at first and after each run.

    Returns:
        Results, in the order of the runs.

    Raises:
        RuntimeError: If a run fails; those beside it are finished and kept.
        ValueError: If ``only`` names an unknown variant.
    """
    study.check_variants(only or ())
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.is_file() else []
    keys = [run.key for run in study.runs]
    others = [r for r in known if r['key'] not in keys]  # other settings
    done = {r['key']: r for r in known if r['key'] in keys}
    results = [
        dict(done[run.key], variant=run.variant)  # it may be renamed
        for run in study.runs
        if run.key in done
    ]
    after(results)

    def begin(run: Run) -> None:
        log(f'[{keys.index(run.key) + 1}/{len(keys)}] {run.title}')
        run_commands(run, study, work_dir / run.folder, jobs)

    def keep(run: Run) -> None:
        result = read_result(run, study, work_dir / run.folder, jobs)
        results.append(result)
        results.sort(key=lambda result: keys.index(result['key']))
        text = json.dumps([*results, *others], indent=1)
        path.write_text(text + '\n')
        after(results)

    todo = [run for run in study.runs if run.key not in done]
    todo = [run for run in todo if not only or run.variant in only]
    _run_in_threads(todo, begin, keep, jobs)
    return results


def _run_in_threads(
    runs: Sequence[Run],
    begin: Callable[[Run], None],
    keep: Callable[[Run], None],
    jobs: int,
) -> None:
    """Begin runs in threads, and keep them in this one, up to an error."""
    stop, errors = Event(), []

    def attempt(run: Run) -> Optional[Run]:
        if stop.is_set():
            return None
        try:
            begin(run)
        except BaseException:
            stop.set()
            raise
        return run

    with ThreadPoolExecutor(jobs) as pool:
        started = [pool.submit(attempt, run) for run in runs]
        try:
            for future in as_completed(started):
                if error := future.exception():
                    errors.append(error)
                elif run := future.result():
                    keep(run)
        except BaseException:
            stop.set()
            raise
    if errors:
        raise errors[0]


def commands(run: Run, study: Study, folder: Path) -> List[List[str]]:
    """List the commands of a run, which read ``settings.py`` in its folder.

    Returns:
        For each command the script below ``tools`` and its arguments.
    """
    settings, work_dir = str(folder / 'settings.py'), ['--work-dir', folder]
    if study.checkpoint is None:
        resume = ['--resume'] * (folder / 'last_checkpoint').is_file()
        train = ['train.py', settings, *work_dir, *resume]
        last = folder / f'epoch_{run.cfg.train_cfg.max_epochs}.pth'
        test = ['test.py', settings, last, '--work-dir', folder / 'test']
        return [train, test][: 1 + study.tests]
    if run.variant == ORIGINAL:
        return [['test.py', settings, study.checkpoint, *work_dir]]
    compressed = folder / 'compressed.safetensors'
    return [
        ['compress.py', settings, study.checkpoint, '--out', folder],
        ['test.py', folder / 'config.py', compressed, *work_dir],
    ]


def run_commands(run: Run, study: Study, folder: Path, jobs: int) -> None:
    """Run those commands of a run that are not done in its folder.

    ``state.json`` there: how many are done, and the seconds of all attempts.

    Raises:
        RuntimeError: If a command fails.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _settings(run, study).dump(str(folder / 'settings.py'))
    env = dict(os.environ)
    if jobs > 1:  # else each run would wait for the others
        env['OMP_NUM_THREADS'] = str(_threads(jobs))
    state = folder / 'state.json'
    done, before = (
        json.loads(state.read_text()) if state.is_file() else (0, 0.0)
    )
    start = time.time()
    for number, (script, *args) in enumerate(commands(run, study, folder), 1):
        if number <= done:
            continue
        command = [sys.executable, ROOT / 'tools' / script, *args]
        try:
            process = subprocess.run(
                [str(part) for part in command], cwd=ROOT, env=env
            )
            done += not process.returncode
        finally:
            seconds = before + time.time() - start
            state.write_text(json.dumps([done, seconds]))
        if process.returncode:
            raise RuntimeError(
                f'{script} ended with {process.returncode}; what it left is '
                f'in {folder}'
            )


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs)


def _settings(run: Run, study: Study):
    """The config that the commands read."""
    cfg = copy.deepcopy(run.cfg)
    if study.checkpoint is None:
        hook = dict(type='halvit_mm.PeakToFinalHook', metric=study.metric)
        others = [
            other
            for other in cfg.get('custom_hooks') or []
            if other['type'] != hook['type']
        ]
        cfg.custom_hooks = [*others, hook]
        cfg.merge_from_dict({'randomness.seed': run.seed})
    return cfg


def read_result(run: Run, study: Study, folder: Path, jobs: int = 1) -> Dict:
    """Read what the commands of a run left in its folder.

    Returns:
        The variant, seed and key of the run, the seconds of all attempts, and
        the device. A training adds sizes and scores; a compression the budget,
        the score, the share of the parameters, the bytes of the file, and the
        summed error of all units before and after calibration.
    """
    has_gpu = torch.cuda.is_available()
    threads = _threads(jobs) if jobs > 1 else None
    result = dict(
        variant=run.variant,
        seed=run.seed,
        key=run.key,
        seconds=json.loads((folder / 'state.json').read_text())[1],
        device=device_name('cuda' if has_gpu else 'cpu', threads),
    )
    if study.checkpoint is None:
        scores = json.loads((folder / PeakToFinalHook.file_name).read_text())
        metrics = scores.pop('metrics')
        if study.tests:
            scores['test'] = _logged(folder / 'test', study.metric)
        stored, effective = count_parameters(build_counted(run.cfg))
        return dict(
            **result,
            stored=stored,
            effective=effective,
            epochs=run.cfg.train_cfg.max_epochs,
            **scores,
            also={name: metrics[name] for name in study.also},
        )
    result.update(budget=run.budget, score=_logged(folder, study.metric))
    if run.variant != ORIGINAL:
        report = json.loads((folder / 'report.json').read_text())
        result.update(
            share=report['parameters'] / report['dense_parameters'],
            file_bytes=report['file_bytes'],
            before=sum(unit['before'] for unit in report['errors']),
            after=sum(unit['after'] for unit in report['errors']),
        )
    return result


def _logged(folder: Path, metric: str) -> float:
    # folders and logs of evaluations are named by their time
    log = max(folder.glob('[0-9]*_[0-9]*/*.json'))
    return json.loads(log.read_text())[metric]
