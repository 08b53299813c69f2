"""Settings of a compression."""

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Dict, Mapping, Optional, Tuple

from .decomposition import GROWTH, SVD_METHODS
from .masks import SCOPES
from .sparsifiers import METHODS

_CHOICES = dict(
    growth=GROWTH, svd=SVD_METHODS, method=METHODS, prune_scope=SCOPES
)

#: What a value must be -> its test, and the settings it is asked of.
_SPANS = {
    'above 0 and at most 1': (lambda x: 0 < x <= 1, 'budget end'),
    'at least 0 and below 1': (lambda x: 0 <= x < 1, 'sparsity'),
    'above 0 and finite': (lambda x: 0 < x < math.inf, 'tau'),
    'at least 0 and finite': (lambda x: 0 <= x < math.inf, 'lr'),
    'at least 0': (lambda x: x >= 0, 'epochs held_out'),
    'at least 1': (
        lambda x: x >= 1,
        'rank interval save_interval num_batches batch_size',
    ),
}


@dataclass(frozen=True)
class CalibrationConfig:
    r"""Settings that all ways to make a model smaller share.

    Attributes:
        groups: For each group a regular expression that the full names of its
            units match, for example ``layers\.[0-3]\.ffn``; a single string
            stands for one group. Without any they are found, see
            :func:`.architecture.default_groups`.
        attention: Whether the attentions belong to groups that are found.
        budget: Share of the weights' parameters that is kept.
        num_batches: Batches of calibration images (30 in the paper).
        held_out: Batches more, whose error is reported and on which nothing
            is trained.
        batch_size: Images in a batch (128 in the paper).
        epochs: Passes over these batches (20 in the paper).
        lr: Learning rate of AdamW at the start; it falls as a cosine. The
            paper's value is lost in its text: our choice.
        seed: Seed of the images, their order and random growth.
        memory_limit: Bytes of activations that are kept in memory; the rest
            goes to files.
        save_interval: Steps between the saved states from which a run that
            was killed goes on.
    """

    #: Name of the settings in a config.
    key: ClassVar[str] = ''

    groups: Tuple[str, ...] = ()
    attention: bool = False
    budget: float = 0.5
    num_batches: int = 30
    held_out: int = 2
    batch_size: int = 128
    epochs: int = 20
    lr: float = 1e-3
    seed: int = 0
    memory_limit: int = 4 * 2**30
    save_interval: int = 50

    @classmethod
    def from_mapping(
        cls, mapping: Optional[Mapping[str, Any]], **overrides
    ) -> 'CalibrationConfig':
        """Read the settings of a config.

        Args:
            mapping: The settings by name, such as ``cfg.get('fips')``.
            overrides: Settings that replace those of the mapping, except
                where they are None.

        Raises:
            ValueError: If a setting is unknown, or if a value is out of its
                range.
        """
        content = dict(mapping or {})
        content.update({k: v for k, v in overrides.items() if v is not None})
        known = [field.name for field in fields(cls)]
        if unknown := sorted(content.keys() - set(known)):
            raise ValueError(
                f'unknown in {cls.key}=dict(...): {unknown}; known: {known}'
            )
        return cls(**content)

    def __post_init__(self) -> None:
        groups = self.groups
        groups = (groups,) if isinstance(groups, str) else tuple(groups)
        object.__setattr__(self, 'groups', groups)
        for name, choices in _CHOICES.items():
            if getattr(self, name, None) not in (None, *choices):
                raise ValueError(
                    f'{self.key}.{name}={getattr(self, name)!r}: choose one '
                    f'of {list(choices)}'
                )
        for span, (is_fine, names) in _SPANS.items():
            for name in names.split():
                value = getattr(self, name, self)  # not all have all
                is_open = value is None and name in ('rank', 'end')
                if value is not self and not is_open and not is_fine(value):
                    raise ValueError(
                        f'{self.key}.{name}={value} must be {span}'
                    )


@dataclass(frozen=True)
class PruneConfig(CalibrationConfig):
    """Settings of structured pruning; ``budget`` is of the hidden units."""

    key: ClassVar[str] = 'prune'


@dataclass(frozen=True)
class FiPSConfig(CalibrationConfig):
    """Settings of FiPS: ranks and pruning beside groups and calibration.

    Attributes:
        sparsity: Share of each factor's entries that is zero in the end (0.75
            in the paper). With the method ``'dense'`` it is 0, with ``'obs'``
            it is what the budget leaves where the rank would be beyond d.
        rank: Rank of every group, instead of the one that the budget gives.
        square: For square weights a regular expression over their full names
            -> ``'in'`` where the base spans what they read, ``'out'`` where
            it spans what they write: their shape does not tell.
        growth: One of :data:`.decomposition.GROWTH`.
        tau: Divisor of the rows that ``growth='hybrid'`` adds (32 in the
            paper).
        svd: One of :data:`.decomposition.SVD_METHODS`.
        scaled: Whether the columns are normalised first and learn their
            scale (FiPS, Sec. 5, Scaling Vectors).
        method: One of :data:`.sparsifiers.METHODS`.
        prune_scope: One of :data:`.masks.SCOPES`. ``'model'`` (the
            paper's) calibrates all groups in one pass, the others one group
            after another, which needs less memory.
        interval: Steps between changes of the masks.
        end: Share of the steps after which the masks stay; None for the
            method's own.
    """

    key: ClassVar[str] = 'fips'

    budget: float = 0.4
    sparsity: float = 0.75
    rank: Optional[int] = None
    square: Optional[Dict[str, str]] = None
    growth: str = 'hybrid'
    tau: float = 32.0
    svd: str = 'auto'
    scaled: bool = False
    method: str = 'gmp'
    prune_scope: str = 'group'
    interval: int = 50
    end: Optional[float] = None

    def __post_init__(self) -> None:
        if self.square is not None:  # a config's own kind of dict
            object.__setattr__(self, 'square', dict(self.square))
        if self.method == 'dense':  # the rank alone meets the budget
            object.__setattr__(self, 'sparsity', 0.0)
        super().__post_init__()
        if self.method == 'obs' and self.scaled:
            raise ValueError(
                "fips.method='obs' has no scales: set fips.scaled=False"
            )
