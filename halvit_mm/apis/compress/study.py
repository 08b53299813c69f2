"""Studies of compression: variants times budgets times seeds."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import yaml

from ..config import load_config
from ..study import (
    check_keys,
    device_name,
    digest_of,
    run_in_process,
    run_pending,
    share_cores,
    slug,
)
from ..training import test
from .checkpoint import compress_checkpoint
from .run import compressed_config
from .settings import FiPSSettings

__all__ = [
    'ORIGINAL',
    'CompressionRun',
    'CompressionStudy',
    'run_compression_study',
]

#: Variant of the model that is not compressed.
ORIGINAL = 'original'


class CompressionRun(NamedTuple):
    """One compression, or the evaluation of the original.

    Attributes:
        variant: Name of the variant.
        budget: Of the compression; 1 for the original.
        seed: Of the calibration's images and their order.
        config: Config file with ``fips``.
        options: ``--cfg-options``, budget and seed among them.
        key: Digest of all settings and of the checkpoint.
    """

    variant: str
    budget: float
    seed: int
    config: str
    options: Dict
    key: str

    @property
    def folder(self) -> str:
        """Where it works, below the study's work directory."""
        return f'{slug(self.variant)}/{self.budget}_seed{self.seed}_{self.key}'

    @property
    def title(self) -> str:
        """What is said when it starts."""
        return f'{self.variant}, budget {self.budget:.0%}, seed {self.seed}'


class CompressionStudy(NamedTuple):
    """What a file says.

    Attributes:
        path: The file.
        checkpoint: Trained weights.
        metric: Score that is compared, larger is better.
        runs: The original first, then all compressions.
    """

    path: str
    checkpoint: str
    metric: str
    runs: List[CompressionRun]

    @property
    def name(self) -> str:
        """Stem of the file."""
        return Path(self.path).stem

    @classmethod
    def load(
        cls, path: str, options: Optional[Dict] = None
    ) -> 'CompressionStudy':
        """Read a file.

        ``config``, ``checkpoint``, ``made_by`` (the command that trains the
        checkpoint), ``metric``, ``budgets``, ``seeds`` and ``options`` hold
        for all ``variants``, each of which may have its own ``config``,
        ``budgets``, ``seeds`` and further ``options``. ``more_seeds`` (budget
        -> seeds) are run by those that have no seeds of their own.

        Args:
            path: A YAML file.
            options: For all runs, over those of the file.

        Returns:
            The study.

        Raises:
            FileNotFoundError: If the config or the checkpoint is missing,
                with the command that makes the latter.
            ValueError: If keys are unknown or missing, or if two runs are
                the same.
        """
        content = yaml.safe_load(Path(path).read_text())
        needed = {'config', 'checkpoint', 'metric', 'budgets', 'variants'}
        check_keys(path, content, needed, {'made_by', 'more_seeds'})
        if ORIGINAL in content['variants']:
            raise ValueError(f'{path}: {ORIGINAL!r} is run anyway')
        checkpoint = Path(content['checkpoint'])
        if not checkpoint.is_file():
            raise FileNotFoundError(
                f'there is no {checkpoint}; make it:\n'
                f'{content.get("made_by", "train it")}'
            )
        weights = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        common = content.get('options', {})

        def run(variant, budget, seed, own):
            config = own.get('config', content['config'])
            merged = {**common, **own.get('options', {}), **(options or {})}
            if variant != ORIGINAL:
                merged.update({'fips.budget': budget, 'fips.seed': seed})
            cfg = load_config(config, merged, read_data=False)
            key = digest_of(cfg, weights, variant == ORIGINAL)
            return CompressionRun(variant, budget, seed, config, merged, key)

        runs = [run(ORIGINAL, 1.0, 0, {})]
        for name, variant in content['variants'].items():
            variant = variant or {}
            check_keys(f'{path}: {name}', variant, set(), {'budgets'})
            for budget in variant.get('budgets', content['budgets']):
                runs += [
                    run(name, budget, seed, variant)
                    for seed in _seeds(content, variant, budget)
                ]
        _check_distinct(path, runs)
        runs.sort(key=lambda run: run.seed)  # stable: all variants soon
        return cls(str(path), str(checkpoint), content['metric'], runs)


def _seeds(content: Dict, variant: Dict, budget: float) -> List[int]:
    if 'seeds' in variant:
        return variant['seeds']
    more = content.get('more_seeds', {})
    return [*content.get('seeds', [0]), *more.get(budget, [])]


def _check_distinct(path: str, runs: Sequence[CompressionRun]) -> None:
    titles: Dict[str, str] = {}
    for run in runs:
        other = titles.setdefault(run.key, run.title)
        if other != run.title:
            raise ValueError(
                f'{path}: {other!r} and {run.title!r} are the same settings'
            )


def run_compression_study(
    study: CompressionStudy,
    work_dir: Path,
    kept: Path,
    jobs: int = 1,
    only: Optional[Sequence[str]] = None,
    log: Callable[[str], None] = print,
    after: Callable[[List[Dict]], None] = lambda results: None,
) -> List[Dict]:
    """Compress and evaluate what is not done yet.

    Args:
        study: What to run.
        work_dir: Folder for compressed files and states.
        kept: Folder of ``results.json``.
        jobs, only, log, after: As of :func:`halvit_mm.apis.study.run_pending`.

    Returns:
        A dict per run: variant, budget, seed, score, share of the parameters,
        bytes of the file, summed errors before and after calibration.

    Raises:
        RuntimeError: If a run fails.
        ValueError: If ``only`` names an unknown variant.
    """
    start = partial(_run, study=study, work_dir=work_dir, jobs=jobs)
    path = kept / 'results.json'
    return run_pending(study.runs, start, path, jobs, only, log, after)


def _run(
    run: CompressionRun, study: CompressionStudy, work_dir: Path, jobs: int
) -> Dict:
    folder = work_dir / run.folder
    args = (study, run, str(folder), jobs)
    seconds = run_in_process(_compress_and_test, args, folder)
    facts = json.loads((folder / 'facts.json').read_text())
    return dict(
        variant=run.variant,
        budget=run.budget,
        seed=run.seed,
        key=run.key,
        seconds=seconds,
        **facts,
    )


def _compress_and_test(
    study: CompressionStudy, run: CompressionRun, folder: str, jobs: int
) -> None:
    share_cores(jobs)
    out = Path(folder)
    cfg = load_config(run.config, run.options, work_dir=folder)
    facts = dict(device=device_name())
    checkpoint = study.checkpoint
    if run.variant != ORIGINAL:
        settings = FiPSSettings.from_config(cfg)
        result = compress_checkpoint(cfg, checkpoint, settings, out)
        before, after = result.summed_errors
        facts.update(
            share=result.share,
            file_bytes=result.file_bytes,
            before=before,
            after=after,
        )
        checkpoint = str(out / 'compressed.safetensors')
        cfg = compressed_config(cfg, out)
        cfg.work_dir = folder
    facts['score'] = float(test(cfg, checkpoint)[study.metric])
    (out / 'facts.json').write_text(json.dumps(facts))
