"""What a config's ``fips`` says."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Dict, Optional, Tuple

from mmengine.config import Config

from ...compression import Calibration

__all__ = ['FiPSSettings']


@dataclass(frozen=True)
class FiPSSettings:
    r"""Settings of a compression, the config's ``fips``.

    Attributes:
        groups: For each group a regular expression over names of units below
            the backbone, for example ``layers\.[0-3]\.ffn``.
        budget: Share of the weights' parameters that is kept.
        sparsity: Of the factors (0.75 in the paper); 0 for ``'dense'``.
        square: Which side of square weights a base spans, see
            :func:`halvit_mm.compression.find_groups`.
        growth: Beyond rank d, see :func:`halvit_mm.compression.prepare`.
        tau: The same.
        svd: The same.
        scaled: The same.
        num_batches: Batches of calibration images (30 in the paper).
        batch_size: Images in one (128 in the paper).
        epochs, lr, method, prune_scope, interval, end, seed, memory_limit,
            save_interval: See :class:`halvit_mm.compression.Calibration`.
    """

    groups: Tuple[str, ...]
    budget: float = 0.4
    sparsity: float = 0.75
    square: Optional[Dict[str, str]] = None
    growth: str = 'hybrid'
    tau: float = 32.0
    svd: str = 'auto'
    scaled: bool = False
    num_batches: int = 30
    batch_size: int = 128
    epochs: int = 20
    lr: float = 1e-3
    method: str = 'gmp'
    prune_scope: str = 'group'
    interval: int = 50
    end: Optional[float] = None
    seed: int = 0
    memory_limit: int = 4 * 2**30
    save_interval: int = 50

    @classmethod
    def from_config(cls, cfg: Config, **overrides) -> 'FiPSSettings':
        """Read ``cfg.fips``.

        Args:
            cfg: A config.
            overrides: Over its settings, where they are not None.

        Returns:
            The settings.

        Raises:
            ValueError: If there is no ``fips``, something unknown in it, or a
                number out of its range.
        """
        content = dict(cfg.get('fips') or {})
        content.update({k: v for k, v in overrides.items() if v is not None})
        known = {field.name for field in fields(cls)}
        unknown = sorted(content.keys() - known)
        if unknown or not content.get('groups'):
            raise ValueError(
                'the config needs fips=dict(groups=[...], ...)'
                + (f'; unknown in it: {unknown}' if unknown else '')
                + f'; known: {sorted(known)}'
            )
        if content.get('method') == 'dense':
            content['sparsity'] = 0.0  # the rank alone meets the budget
        content['groups'] = tuple(content['groups'])
        return cls(**content)

    def __post_init__(self) -> None:
        """Raises: ValueError: If a number is out of its range."""
        end = 1 if self.end is None else self.end
        for name, is_fine, span in (
            ('budget', 0 < self.budget <= 1, 'above 0 and at most 1'),
            ('sparsity', 0 <= self.sparsity < 1, 'at least 0 and below 1'),
            ('epochs', self.epochs >= 0, 'at least 0'),
            ('interval', self.interval >= 1, 'at least 1'),
            ('end', 0 < end <= 1, 'above 0 and at most 1'),
            ('num_batches', self.num_batches >= 1, 'at least 1'),
            ('batch_size', self.batch_size >= 1, 'at least 1'),
        ):
            if not is_fine:
                raise ValueError(
                    f'fips.{name}={getattr(self, name)}: it is {span}'
                )

    @property
    def key(self) -> str:
        """Tells compressions apart whose calibration is set alike."""
        values = asdict(self)
        others = values.keys() - set(Calibration._fields)
        return json.dumps({k: values[k] for k in others}, sort_keys=True)

    def calibration(self) -> Calibration:
        """What of it is of the calibration."""
        values = asdict(self)
        return Calibration(**{k: values[k] for k in Calibration._fields})
