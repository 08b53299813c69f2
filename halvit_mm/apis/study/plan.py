"""What a study runs: configs times seeds."""

import hashlib
import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import yaml
from mmengine.config import Config

from ..config import load_config

__all__ = ['Run', 'Study', 'check_keys', 'digest_of', 'slug']


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
        return f'{slug(self.variant)}/seed{self.seed}_{self.key}'

    @property
    def title(self) -> str:
        """What is said when it starts."""
        return f'{self.variant}, seed {self.seed}'


def slug(name: str) -> str:
    """Args: name: Any text. Returns: It as the name of a folder."""
    return ''.join(c if c.isalnum() else '_' for c in name)


def digest_of(cfg: Config, *others) -> str:
    """Key of a run: other settings make another one.

    Args:
        cfg: Its config.
        others: What else settles it, for JSON.

    Returns:
        Twelve hexadecimal digits.
    """
    text = json.dumps([cfg.to_dict(), *others], sort_keys=True, default=str)
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
        check_keys(path, content, {'config', 'metric', 'variants'}, {'also'})
        common = content.get('options', {})
        runs = []
        for name, variant in content['variants'].items():
            variant = variant or {}
            check_keys(f'{path}: {name}', variant, set(), set())
            merged = {
                **common,
                **variant.get('options', {}),
                **(options or {}),
            }
            config = variant.get('config', content['config'])
            seeds = variant.get('seeds', content.get('seeds', [0]))
            cfg = load_config(config, merged, read_data=False)
            runs += [
                Run(name, seed, config, merged, digest_of(cfg, seed))
                for seed in seeds
            ]
        _check_distinct(path, runs)
        runs.sort(key=lambda run: run.seed)  # stable: all variants soon
        also = content.get('also', [])
        return cls(str(path), content['metric'], also, runs)


def check_keys(where: str, content: Dict, needed: set, extra: set) -> None:
    """Complain about a study file.

    Args:
        where: In which file, for the message.
        content: Of it.
        needed: Keys that are there.
        extra: Keys that may be there, besides those of every run.

    Raises:
        ValueError: If keys are unknown or missing.
    """
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
