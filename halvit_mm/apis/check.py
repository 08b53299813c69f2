"""Training steps on noise, to check a config without its data."""

import math
import resource
import statistics
from typing import Dict, NamedTuple, Optional, Sequence

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from .fake_data import fake_batch, image_size, is_detector
from .model_info import build_model
from .timing import Clock


class Check(NamedTuple):
    """The result of some training steps."""

    losses: Dict[str, float]  # of the last step
    seconds: float  # median of a step; without the first, which allocates
    peak_gib: float  # most memory that this process has used so far, GiB


def check_config(
    cfg: Config,
    size: Optional[Sequence[int]] = None,
    num_images: int = 2,
    steps: int = 1,
) -> Check:
    """Build the model and its optimiser of a config and train on noise.

    Pretrained weights are not loaded and no data are read.

    Args:
        cfg: From :func:`.load_config`.
        size: Height and width of the noise in pixels; by default 128 x 160
            for a detector and the model's own size for a classifier.
        num_images: Images in a step.
        steps: Number of steps, at least 1.

    Raises:
        ValueError: If the sum of the losses is not finite.
    """
    model = build_model(cfg).train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    size = size or ((128, 160) if is_detector(cfg) else image_size(cfg))
    clock = Clock()
    for step in range(steps):
        batch = fake_batch(cfg, tuple(size), num_images)
        clock.mark(step)
        logs = model.train_step(batch, optim_wrapper)
        clock.mark(None)
        losses = {name: value.item() for name, value in logs.items()}
        if not math.isfinite(losses['loss']):
            raise ValueError(f'the loss is not finite: {losses}')
    times = list(clock.phases().values())  # milliseconds
    seconds = statistics.median(times[1:] or times) / 1e3
    # ru_maxrss is in KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Check(losses, seconds, peak)
