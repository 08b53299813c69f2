"""Training steps on noise, to check a config without its data."""

import math
import resource
import statistics
from typing import Dict, NamedTuple, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from .fake_data import fake_batch, image_size, is_detector
from .model_info import build_model
from .timing import Clock


class Check(NamedTuple):
    """The result of some training steps."""

    losses: Dict[str, float]  # of the last step
    seconds: float  # median of a step; without the first, which allocates
    peak_gib: float  # most memory, GiB: of the GPU, else of this process


def check_config(
    cfg: Config,
    size: Optional[Sequence[int]] = None,
    num_images: int = 2,
    steps: int = 1,
    device: str = 'cpu',
) -> Check:
    """Build the model and its optimiser of a config and train on noise.

    Pretrained weights are not loaded and no data are read. On the CPU the
    memory is the most that this process has used since it began.

    Args:
        cfg: From :func:`.load_config`.
        size: Height and width of the noise in pixels; by default 128 x 160
            for a detector and the model's own size for a classifier.
        num_images: Images in a step.
        steps: Number of steps, at least 1.
        device: Where the model is trained, such as ``'cuda'``.

    Raises:
        ValueError: If the sum of the losses is not finite, or there is no
            such device.
    """
    on_gpu = torch.device(device).type == 'cuda'
    if on_gpu and not torch.cuda.is_available():
        raise ValueError(f'device {device}: there is no GPU')
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    model = build_model(cfg).to(device).train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    size = size or ((128, 160) if is_detector(cfg) else image_size(cfg))
    clock = Clock(device)
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
    if on_gpu:
        peak = torch.cuda.max_memory_allocated(device)
    else:  # in KiB on Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    return Check(losses, seconds, peak / 2**30)
