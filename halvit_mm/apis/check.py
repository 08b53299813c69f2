"""Steps on noise: does a config hold together, and what does it take?"""

import math
import resource
import statistics
import time
from typing import Dict, NamedTuple, Optional, Sequence

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from .fake_data import fake_batch, image_size, is_detector
from .model_info import build_model

__all__ = ['check_config']


class Check(NamedTuple):
    """What the steps gave.

    Attributes:
        losses: Loss name -> value of the last step.
        seconds: Median time of a step, without the first if there are more.
        peak_gib: Largest memory of this process so far, GiB.
    """

    losses: Dict[str, float]
    seconds: float
    peak_gib: float


def check_config(
    cfg: Config,
    size: Optional[Sequence[int]] = None,
    num_images: int = 2,
    steps: int = 1,
) -> Check:
    """Build the model and its optimiser and train on noise.

    Pretrained weights are not loaded, data are not read.

    Args:
        cfg: From :func:`halvit_mm.apis.load_config`.
        size: Height and width of the noise in pixels; by default 128 x 160
            for a detector and the model's own size for a classifier.
        num_images: Images a step.
        steps: Number of steps.

    Returns:
        Losses, time and memory.

    Raises:
        ValueError: If a loss is not finite.
    """
    model = build_model(cfg).train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    size = size or ((128, 160) if is_detector(cfg) else image_size(cfg))
    seconds = []
    for _ in range(steps):
        batch = fake_batch(cfg, tuple(size), num_images)
        start = time.perf_counter()
        logs = model.train_step(batch, optim_wrapper)
        losses = {name: value.item() for name, value in logs.items()}
        seconds.append(time.perf_counter() - start)
        if not math.isfinite(losses['loss']):
            raise ValueError(f'the loss is not finite: {losses}')
    # ru_maxrss is in KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Check(losses, statistics.median(seconds[1:] or seconds), peak)
