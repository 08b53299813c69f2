"""What a study runs: variants, budgets and seeds of one config."""

import hashlib
import json
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional

import yaml
from mmengine.config import Config

from halvit_mm.apis import load_config

#: The repository: files and commands of a study are named from here.
ROOT = Path(__file__).resolve().parents[3]
#: In a study of compression, the variant that is not compressed.
ORIGINAL = 'original'


class Run(NamedTuple):
    """One training, or one compression and its evaluation.

    Attributes:
        variant: Name of the variant.
        seed: Seed of the training, or of the calibration's images.
        cfg: The config with all options.
        key: Digest of all settings: other settings make another run.
        budget: Share of the parameters that a compression keeps, 1 for the
            original; None for a training.
    """

    variant: str
    seed: int
    cfg: Config
    key: str
    budget: Optional[float] = None

    @property
    def folder(self) -> str:
        """Its folder below the study's work directory."""
        variant = ''.join(c if c.isalnum() else '_' for c in self.variant)
        budget = '' if self.budget is None else f'{self.budget}_'
        return f'{variant}/{budget}seed{self.seed}_{self.key}'

    @property
    def title(self) -> str:
        """What is printed when it starts."""
        budget = '' if self.budget is None else f'budget {self.budget:.0%}, '
        return f'{self.variant}, {budget}seed {self.seed}'


class Study(NamedTuple):
    """The content of a study file.

    Attributes:
        path: The file.
        metric: The score that is compared; larger is better.
        also: Further scores of the last validation of trainings.
        checkpoint: Trained weights that are compressed; None in a study of
            trainings.
        runs: All runs, first seeds first.
        stage: Name of the stage, in a study that has several.
        tests: Whether each training ends with one reading of the test set,
            by which nothing is chosen.
        rule: What is recommended, see :func:`.rule.judge`.
    """

    path: str
    metric: str
    also: List[str]
    checkpoint: Optional[str]
    runs: List[Run]
    stage: str = ''
    tests: bool = False
    rule: Optional[Dict] = None

    @property
    def name(self) -> str:
        """The stem of the file, and the stage if there are several."""
        return str(Path(self.path).stem / Path(self.stage))

    @property
    def out(self) -> Path:
        """The folder of the results, unless another one is named."""
        return ROOT / 'docs' / 'studies' / self.name

    @property
    def work_dir(self) -> Path:
        """The folder of checkpoints and logs, unless another one is named."""
        return ROOT / 'work_dirs' / 'studies' / self.name

    def check_variants(self, names: Iterable[str]) -> None:
        """Raise a ValueError if there are no variants of these names."""
        known = {run.variant for run in self.runs}
        if unknown := set(names) - known:
            raise ValueError(
                f'no variants {sorted(unknown)}: choose of {sorted(known)}'
            )

    @classmethod
    def load(cls, path: str, options: Optional[Dict] = None) -> 'Study':
        """Read a study file.

        ``config``, ``metric``, ``seeds`` and ``options`` hold for all
        ``variants``, each of which may have its own ``config``, ``seeds`` and
        further ``options``. Trainings may name scores in ``also``, and read
        the test set at their end by ``test``.

        A file with a ``checkpoint`` is a study of compression. ``made_by`` is
        the command that trains the checkpoint. Every variant is run for each
        of ``budgets``; a variant may have budgets of its own. ``more_seeds``
        maps a budget to further seeds, for variants without ``seeds``.

        Args:
            path: A YAML file.
            options: Options for all runs; they override those of the file.

        Returns:
            The study.

        Raises:
            FileNotFoundError: If a config or the checkpoint is missing; for
                the latter, the message has the command that makes it.
            ValueError: If keys are unknown or missing, or if two runs have
                the same settings.
        """
        return cls.plan(path, yaml.safe_load(Path(path).read_text()), options)

    @classmethod
    def plan(
        cls,
        path: str,
        content: Dict,
        options: Optional[Dict] = None,
        stage: str = '',
    ) -> 'Study':
        """Plan the runs of what a study file says, see :meth:`load`."""
        compresses = 'checkpoint' in content
        needed, own = {'config', 'metric', 'variants'}, set()
        if compresses:
            own = {'budgets'}
            needed |= {'checkpoint', *own}
        extra = {'also', 'test'}
        if compresses:
            extra = {'made_by', 'more_seeds'}
        _check_keys(path, content, needed, extra)
        for name, variant in content['variants'].items():
            _check_keys(f'{path}: {name}', variant or {}, set(), own)
        make = _compressions if compresses else _trainings
        runs = list(make(path, content, options or {}))
        titles: Dict[str, str] = {}
        for run in runs:
            other = titles.setdefault(run.key, run.title)
            if other != run.title:
                raise ValueError(
                    f'{path}: {other!r} and {run.title!r} have the same '
                    'settings'
                )
        runs.sort(key=lambda run: run.seed)  # stable: all variants soon
        return cls(
            str(path),
            content['metric'],
            content.get('also', []),
            content.get('checkpoint'),
            runs,
            stage,
            content.get('test', False),
        )


def _check_keys(where: str, content: Dict, needed: set, extra: set) -> None:
    missing = needed - content.keys()
    unknown = content.keys() - needed - extra - {'config', 'seeds', 'options'}
    if missing or unknown:
        raise ValueError(
            f'{where}: missing {sorted(missing)}, unknown {sorted(unknown)}'
        )


def _config(content: Dict, variant: Dict, *options: Dict) -> Config:
    """Load the config of a variant with all options, the last ones first."""
    merged = {**content.get('options', {}), **variant.get('options', {})}
    for more in options:
        merged.update(more)
    path = ROOT / variant.get('config', content['config'])
    return load_config(str(path), merged, read_data=False)


def _digest(cfg: Config, *others) -> str:
    text = json.dumps([cfg.to_dict(), *others], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _trainings(path: str, content: Dict, options: Dict) -> Iterator[Run]:
    for name, variant in content['variants'].items():
        variant = variant or {}
        cfg = _config(content, variant, options)
        for seed in variant.get('seeds', content.get('seeds', [0])):
            yield Run(name, seed, cfg, _digest(cfg, seed))


def _compressions(path: str, content: Dict, options: Dict) -> Iterator[Run]:
    if ORIGINAL in content['variants']:
        raise ValueError(f'{path}: {ORIGINAL!r} is run anyway')
    checkpoint = ROOT / content['checkpoint']
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f'there is no {checkpoint}; make it:\n'
            f'{content.get("made_by", "train it")}'
        )
    weights = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    cfg = _config(content, {}, options)
    yield Run(ORIGINAL, 0, cfg, _digest(cfg, weights, True), 1.0)
    seeds = content.get('seeds', [0])
    more_seeds = content.get('more_seeds', {})
    for name, variant in content['variants'].items():
        variant = variant or {}
        for budget in variant.get('budgets', content['budgets']):
            common = [*seeds, *more_seeds.get(budget, [])]
            for seed in variant.get('seeds', common):
                fips = {'fips.budget': budget, 'fips.seed': seed}
                cfg = _config(content, variant, options, fips)
                key = _digest(cfg, weights, False)
                yield Run(name, seed, cfg, key, budget)
