"""Settings of a compression, from a config or without any in it."""

from typing import Optional, Union

from mmengine.config import Config

from ...compression import CalibrationConfig, FiPSConfig, PruneConfig

#: Name on the command line and in a config -> the class of its settings.
WAYS = {cls.key: cls for cls in (FiPSConfig, PruneConfig)}

#: What holds where a config names no groups: a quarter of an hour for a ViT-S
#: on two cores. The paper's recipe is in configs/_base_/fips/paper.py.
QUICK = dict(
    budget=0.5, num_batches=32, batch_size=8, held_out=4, epochs=4, lr=3e-4
)


def read_settings(
    cfg: Config, how: str, images: Optional[int] = None, **overrides
) -> Union[FiPSConfig, PruneConfig]:
    """Read the settings of a compression.

    Args:
        cfg: Config of a model, with or without ``fips`` or ``prune``.
        how: One of :data:`WAYS`.
        images: Calibration images; by default what the settings say.
        overrides: Settings that replace those of the config, except where
            they are None.

    Raises:
        ValueError: As :meth:`~halvit_mm.compression.CalibrationConfig
            .from_mapping`, or if the images do not fill a batch.
    """
    settings = dict(cfg.get(how) or {})
    if not settings.get('groups'):
        is_fips = how == FiPSConfig.key
        quick = dict(QUICK, method='obs') if is_fips else QUICK
        settings = {**quick, **settings}
    config: CalibrationConfig = WAYS[how].from_mapping(settings, **overrides)
    if images is None:
        return config
    if images < config.batch_size:
        raise ValueError(
            f'{images} images do not fill a batch of {config.batch_size}'
        )
    number = images // config.batch_size
    return WAYS[how].from_mapping(settings, **overrides, num_batches=number)
