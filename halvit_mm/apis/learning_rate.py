"""The learning rate and the number of images in a step."""

import math

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.runner import Runner


def enable_auto_scale_lr(cfg: Config) -> None:
    """Let the runner scale the learning rate with the batch.

    Args:
        cfg: The config, which is changed.

    Raises:
        ValueError: If it does not tell for which batch its rate is, or adds
            up the gradients of several batches, which are not counted.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ValueError(
            '--auto-scale-lr: the config has no auto_scale_lr.base_batch_size'
        )
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    if accumulated != 1:
        raise ValueError(
            '--auto-scale-lr does not count the accumulated batches '
            f'(accumulative_counts={accumulated}): set '
            'optim_wrapper.optimizer.lr instead'
        )
    cfg.auto_scale_lr.enable = True


def warn_of_batch_size(runner: Runner) -> None:
    """Warn if the learning rate is for another number of images a step.

    Args:
        runner: Before its training.
    """
    cfg = runner.cfg
    settings = cfg.get('auto_scale_lr') or {}
    base = settings.get('base_batch_size')
    lr = cfg.optim_wrapper.get('optimizer', {}).get('lr')
    if not base or settings.get('enable') or lr is None:
        return
    factors = [get_world_size(), cfg.train_dataloader.get('batch_size')]
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    factors += [accumulated] if accumulated != 1 else []
    if None not in factors and math.prod(factors) != base:
        images = math.prod(factors)
        runner.logger.warning(
            f'the learning rate {lr:g} is for {base} images a step, but this '
            f'run has {" x ".join(map(str, factors))} = {images}: the linear '
            f'rule gives {lr * images / base:g}; --auto-scale-lr applies it'
        )
