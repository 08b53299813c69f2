"""Trainings of a study."""

import json
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from ...engine import PeakToFinalHook
from ..config import load_config
from ..model_info import count_parameters
from ..training import train
from .pending import device_name, run_in_process, run_pending, share_cores
from .plan import Run, Study, digest_of

__all__ = ['run_study']


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

    A training that was interrupted goes on from its last checkpoint.

    Args:
        study: What to run.
        work_dir: Folder for checkpoints and logs.
        kept: Folder of ``results.json``.
        jobs, only, log, after: As of :func:`.pending.run_pending`.

    Returns:
        A dict per run: variant, seed, scores, sizes, seconds.

    Raises:
        RuntimeError: If a training fails.
        ValueError: If ``only`` names an unknown variant.
    """
    start = partial(_run, study=study, work_dir=work_dir, jobs=jobs)
    path = kept / 'results.json'
    return run_pending(study.runs, start, path, jobs, only, log, after)


def _run(run: Run, study: Study, work_dir: Path, jobs: int) -> Dict:
    """Train, or go on with a training that was interrupted."""
    cfg = load_config(run.config, run.options, read_data=False)
    if digest_of(cfg, run.seed) != run.key:
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
    folder = work_dir / run.folder
    args = (run.config, options, str(folder), jobs)
    seconds = run_in_process(_train, args, folder)
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


def _train(config: str, options: Dict, folder: str, jobs: int) -> None:
    """One training, one of so many at a time."""
    share_cores(jobs)
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
        device=device_name(),
    )
    Path(folder, 'facts.json').write_text(json.dumps(facts))
