"""Settings of a compression, from a config or without any in it."""

from dataclasses import dataclass, replace
from typing import ClassVar, Optional

from mmengine.config import Config

from ...compression import CalibrationConfig, FiPSConfig, PruneConfig


@dataclass(frozen=True)
class TieConfig(CalibrationConfig):
    """Settings of a fit; it has neither ``groups`` nor a ``budget``."""

    key: ClassVar[str] = 'tie'


#: Name on the command line and in a config -> the class of its settings.
WAYS = {cls.key: cls for cls in (FiPSConfig, PruneConfig)}

#: What holds where a config names no groups: 22 minutes of one core for the
#: FFNs of a ViT-S. The paper's recipe is in configs/_base_/fips/paper.py.
QUICK = dict(
    budget=0.5, num_batches=32, batch_size=8, held_out=4, epochs=4, lr=3e-4
)


def read_settings(
    cfg: Config, how: str, images: Optional[int] = None, **overrides
) -> CalibrationConfig:
    """Read the settings of a compression or a fit.

    Args:
        cfg: Config of a model, with or without ``fips``, ``prune`` or
            ``tie``.
        how: One of :data:`WAYS`, or ``'tie'``.
        images: Calibration images; by default what the settings say.
        overrides: Settings that replace those of the config, except where
            they are None.

    Raises:
        ValueError: As :meth:`.CalibrationConfig.from_mapping`, or if the
            images do not fill a batch.
    """
    cls = TieConfig if how == TieConfig.key else WAYS[how]
    settings = dict(cfg.get(how) or {})
    if not settings.get('groups'):
        quick = dict(QUICK, method='obs') if cls is FiPSConfig else QUICK
        settings = {**quick, **settings}
    config = cls.from_mapping(settings, **overrides)
    if images is None:
        return config
    if images < config.batch_size:
        raise ValueError(
            f'{images} images do not fill a batch of {config.batch_size}'
        )
    return replace(config, num_batches=images // config.batch_size)
