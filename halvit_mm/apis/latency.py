"""Time of forward passes, several models in turns."""

import statistics
import time
from typing import Callable, Dict, Hashable, Optional, Tuple

import torch
from mmengine.config import Config

from .fake_data import fake_batch, image_size
from .model_info import build_model

__all__ = ['stopwatch', 'time_in_turns']

_PASSES = 3  # of a model in its turn


def stopwatch(
    cfg: Config, size: Optional[Tuple[int, int]] = None, batch: int = 1
) -> Callable[[], float]:
    """Build a model, to time it on the CPU.

    Args:
        cfg: Of any detector or classifier here.
        size: Height and width in pixels; by default what the config tests
            with.
        batch: Images in a pass.

    Returns:
        Makes one forward pass of noise and returns its seconds.
    """
    model = build_model(cfg).eval()
    images = fake_batch(cfg, size or image_size(cfg), num_images=batch)
    data = model.data_preprocessor(images, False)

    @torch.no_grad()
    def measure() -> float:
        start = time.perf_counter()
        model(**data, mode='tensor')
        return time.perf_counter() - start

    return measure


def time_in_turns(
    timers: Dict[Hashable, Callable[[], float]], repeats: int
) -> Dict[Hashable, float]:
    """Time models so that a slow minute of the machine is one of all.

    Args:
        timers: Name -> what makes a pass and returns its seconds.
        repeats: Turns of each, of three passes.

    Returns:
        Name -> median of its passes, in seconds.
    """
    for timer in timers.values():
        timer()  # the first pass allocates
    seconds = {key: [] for key in timers}
    for _ in range(repeats):
        for key, timer in timers.items():
            seconds[key] += [timer() for _ in range(_PASSES)]
    return {key: statistics.median(values) for key, values in seconds.items()}
