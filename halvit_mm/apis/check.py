"""One step on noise: does a config hold together?"""

import math
from typing import Dict, Optional, Sequence

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from .fake_data import fake_batch, image_size, is_detector
from .model_info import build_model

__all__ = ['check_config']


def check_config(
    cfg: Config, size: Optional[Sequence[int]] = None
) -> Dict[str, float]:
    """Build the model and its optimiser and take one training step.

    Pretrained weights are not loaded, data are not read.

    Args:
        cfg: From :func:`halvit_mm.apis.load_config`.
        size: Height and width of the noise in pixels; by default 128 x 160
            for a detector and the model's own size for a classifier.

    Returns:
        Loss name -> value.

    Raises:
        ValueError: If a loss is not finite.
    """
    model = build_model(cfg).train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    size = size or ((128, 160) if is_detector(cfg) else image_size(cfg))
    logs = model.train_step(fake_batch(cfg, tuple(size)), optim_wrapper)
    losses = {name: value.item() for name, value in logs.items()}
    if not math.isfinite(losses['loss']):
        raise ValueError(f'the loss is not finite: {losses}')
    return losses
