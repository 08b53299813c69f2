"""Studies: configs times seeds, run and compared."""

import hashlib
import json
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import (
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch
import yaml
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from ..engine import PeakToFinalHook
from .config import load_config
from .model_info import count_parameters
from .run import train

__all__ = ['Run', 'Study', 'print_study', 'run_study', 'write_study']


class Run(NamedTuple):
    """One training.

    Attributes:
        variant: Name of the variant.
        seed: Its seed.
        config: Config file.
        options: ``--cfg-options`` of the variant.
        key: Digest of all settings: other settings make another run.
    """

    variant: str
    seed: int
    config: str
    options: Dict
    key: str

    @property
    def folder(self) -> str:
        """Where it is trained, below the study's work directory."""
        slug = ''.join(c if c.isalnum() else '_' for c in self.variant)
        return f'{slug}/seed{self.seed}_{self.key}'


def _digest(cfg: Config, seed: int) -> str:
    text = json.dumps([cfg.to_dict(), seed], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Study(NamedTuple):
    """What a study file says.

    Attributes:
        path: The file.
        metric: Score that is compared, larger is better.
        also: Further scores of the last validation.
        runs: All trainings, first seeds first.
    """

    path: str
    metric: str
    also: List[str]
    runs: List[Run]

    @property
    def name(self) -> str:
        """Stem of the file."""
        return Path(self.path).stem

    @classmethod
    def load(cls, path: str, options: Optional[Dict] = None) -> 'Study':
        """Read a study file.

        ``config``, ``metric``, ``also``, ``seeds``, ``options`` hold for all
        ``variants``, each of which may have its own ``config``, ``seeds`` and
        further ``options``.

        Args:
            path: A YAML file.
            options: For all runs, over those of the file.

        Returns:
            The study.

        Raises:
            FileNotFoundError: If there is no such config.
            ValueError: If keys are unknown or missing, or if two variants
                are the same.
        """
        content = yaml.safe_load(Path(path).read_text())
        _check_keys(path, content, {'config', 'metric', 'variants'}, {'also'})
        common = content.get('options', {})
        runs = []
        for name, variant in content['variants'].items():
            variant = variant or {}
            _check_keys(f'{path}: {name}', variant, set(), set())
            merged = {
                **common,
                **variant.get('options', {}),
                **(options or {}),
            }
            config = variant.get('config', content['config'])
            seeds = variant.get('seeds', content.get('seeds', [0]))
            cfg = load_config(config, merged, read_data=False)
            runs += [
                Run(name, seed, config, merged, _digest(cfg, seed))
                for seed in seeds
            ]
        _check_distinct(path, runs)
        runs.sort(key=lambda run: run.seed)  # stable: all variants soon
        also = content.get('also', [])
        return cls(str(path), content['metric'], also, runs)


def _check_keys(where: str, content: Dict, needed: set, extra: set) -> None:
    missing = needed - content.keys()
    allowed = needed | extra | {'config', 'seeds', 'options'}
    unknown = content.keys() - allowed
    if missing or unknown:
        raise ValueError(
            f'{where}: missing {sorted(missing)}, unknown {sorted(unknown)}'
        )


def _check_distinct(path: str, runs: List[Run]) -> None:
    variants: Dict[str, str] = {}
    for run in runs:
        other = variants.setdefault(run.key, run.variant)
        if other != run.variant:
            raise ValueError(
                f'{path}: {other!r} and {run.variant!r} are the same settings'
            )


def _train(config: str, options: Dict, folder: str, jobs: int) -> None:
    """One training in a process of its own, one of so many."""
    if jobs > 1:  # the cores are divided, or each would wait for the others
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    begun = Path(folder, 'last_checkpoint').is_file()
    resume = 'auto' if begun else None
    cfg = load_config(config, options, work_dir=folder, resume=resume)
    runner = train(cfg)
    model = getattr(runner.model, 'module', runner.model)
    stored, effective = count_parameters(model)
    facts = dict(
        stored=stored,
        effective=effective,
        epochs=runner.max_epochs,
        device=_device(),
    )
    Path(folder, 'facts.json').write_text(json.dumps(facts))


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{os.cpu_count()} CPU cores'


def _run(run: Run, study: Study, folder: Path, jobs: int) -> Dict:
    """Train, or go on with a training that was interrupted."""
    cfg = load_config(run.config, run.options, read_data=False)
    if _digest(cfg, run.seed) != run.key:
        raise RuntimeError(
            f'{run.config} was changed while the study ran: start it again'
        )
    hook = dict(type='halvit_mm.PeakToFinalHook', metric=study.metric)
    others = [
        other
        for other in cfg.get('custom_hooks') or []
        if other['type'] != hook['type']
    ]
    options = {
        **run.options,
        'randomness.seed': run.seed,
        'custom_hooks': [*others, hook],
    }
    start = time.time()
    # A process each: nothing of one run is left in the next.
    process = multiprocessing.get_context('spawn').Process(
        target=_train, args=(run.config, options, str(folder), jobs)
    )
    process.start()
    process.join()
    seconds = _add_seconds(folder / 'seconds.json', time.time() - start)
    if process.exitcode:
        raise RuntimeError(
            f'{run.variant}, seed {run.seed}: the training ended with '
            f'{process.exitcode}; its log is in {folder}'
        )
    scores = json.loads((folder / PeakToFinalHook.file_name).read_text())
    metrics = scores.pop('metrics')
    return dict(
        variant=run.variant,
        seed=run.seed,
        key=run.key,
        seconds=seconds,
        **json.loads((folder / 'facts.json').read_text()),
        **scores,
        also={name: metrics[name] for name in study.also},
    )


def _add_seconds(path: Path, seconds: float) -> float:
    """Returns: Seconds of all attempts at a run, kept in a file."""
    before = json.loads(path.read_text()) if path.is_file() else 0
    path.write_text(json.dumps(before + seconds))
    return before + seconds


def run_study(
    study: Study,
    work_dir: Path,
    kept: Path,
    jobs: int = 1,
    only: Optional[Sequence[str]] = None,
    log: Callable[[str], None] = print,
    after: Callable[[List[Dict]], None] = lambda results: None,
) -> List[Dict]:
    """Run what is not done yet.

    What is done stands in ``results.json`` of ``kept``, which can be carried
    to another machine; results of other settings stay there. A run that was
    interrupted goes on from its last checkpoint.

    Args:
        study: What to run.
        work_dir: Folder for checkpoints and logs.
        kept: Folder of the results.
        jobs: Trainings at a time; they share the machine's cores.
        only: Variants that are run, None for all of them.
        log: Told what goes on.
        after: Called with the results so far, at first and after each run.

    Returns:
        A dict per run: variant, seed, scores, sizes, seconds.

    Raises:
        RuntimeError: If a training fails.
        ValueError: If ``only`` names an unknown variant.
    """
    variants = {run.variant for run in study.runs}
    unknown = set(only or ()) - variants
    if unknown:
        raise ValueError(
            f'no variants {sorted(unknown)}: choose of {sorted(variants)}'
        )
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / 'results.json'
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
    stop = Event()  # after an error nothing new is started

    def start(number: int, run: Run) -> Optional[Dict]:
        if stop.is_set():
            return None
        log(f'[{number}/{len(keys)}] {run.variant}, seed {run.seed}')
        folder = work_dir / run.folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return _run(run, study, folder, jobs)
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
            pool.submit(start, number, run)
            for number, run in enumerate(study.runs, 1)
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


def _by_variant(results: List[Dict]) -> Dict[str, List[Dict]]:
    groups: Dict[str, List[Dict]] = {}
    for result in results:
        groups.setdefault(result['variant'], []).append(result)
    return groups


def _mean_and_spread(values: List[float], decimals: int) -> str:
    mean = f'{statistics.mean(values):.{decimals}f}'
    if len(values) == 1:
        return mean
    return f'{mean} ± {statistics.stdev(values):.{decimals}f}'


def _rows(results: List[Dict]) -> Tuple[List[str], List[List[str]]]:
    columns = ['variant', 'parameters', 'effective', 'seeds', 'final', 'best']
    also = list(results[0].get('also', {})) if results else []
    columns += ['best - final', *also, 'min. a run']
    # per cent, or shares of 1
    decimals = 2 if any(r['best'] > 1 for r in results) else 3
    rows = []
    for variant, group in _by_variant(results).items():
        rows.append(
            [
                variant,
                f'{group[0]["stored"]:,}',
                f'{group[0]["effective"]:,}',
                str(len(group)),
                *(
                    _mean_and_spread([r[key] for r in group], decimals)
                    for key in ('final', 'best', 'difference')
                ),
                *(
                    _mean_and_spread([r['also'][key] for r in group], decimals)
                    for key in also
                ),
                f'{statistics.mean(r["seconds"] for r in group) / 60:.1f}',
            ]
        )
    return columns, rows


def print_study(study: Study, results: List[Dict]) -> None:
    """Print mean and standard deviation over seeds as a table.

    Args:
        study: For the title.
        results: From :func:`run_study`.
    """
    columns, rows = _rows(results)
    table = Table(title=f'{study.name}: {study.metric}')
    for column in columns:
        justify = 'right' if table.columns else 'left'
        table.add_column(column, justify=justify)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def write_study(study: Study, results: List[Dict], out: Path) -> None:
    """Write ``table.md``.

    Args:
        study: For the title.
        results: From :func:`run_study`.
        out: Folder.
    """
    columns, rows = _rows(results)
    lines = [columns, ['---'] * len(columns), *rows]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    epochs = sorted({r['epochs'] for r in results})
    devices = sorted({r['device'] for r in results})
    (out / 'table.md').write_text(
        f'{study.metric} after {", ".join(map(str, epochs))} epochs on '
        f'{", ".join(devices)}:\n'
        f'`python tools/analysis_tools/compare.py {study.path}`\n\n{text}\n'
    )
