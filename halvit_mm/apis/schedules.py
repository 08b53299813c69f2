"""Schedules that fit the length of a run."""

import copy
from typing import Any, Callable, Dict, List, Optional

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

#: A warm-up by steps takes at most this share of them: the one of the recipe
#: in docs/custom_data.md, 50 of 402.
WARMUP_SHARE = 1 / 8

_POINTS = ('begin', 'end', 'milestones')
_LENGTHS = ('T_max', 'step_size', 'total_steps', 'periods')


def is_fitted(cfg: Config) -> bool:
    """Whether the schedule follows the run: with ``classes`` of one's own."""
    return cfg.get('fit_schedule', bool(cfg.get('classes')))


def run_length(cfg: Config) -> Optional[int]:
    """Read the epochs, or else the steps, of a config; None without them."""
    train_cfg = cfg.get('train_cfg') or {}
    return train_cfg.get('max_epochs', train_cfg.get('max_iters'))


def follow_options(
    cfg: Config, options: Dict[str, Any], old: Optional[int]
) -> None:
    """Keep what a schedule counts as shares of a run whose length is changed.

    An option for the schedule itself leaves all of it to the options.

    Args:
        cfg: The config with the options.
        options: Dotted key -> value.
        old: :func:`run_length` without them.
    """
    by_name = any(k.split('.')[0] == 'param_scheduler' for k in options)
    if by_name and is_fitted(cfg) and 'fit_schedule' not in cfg:
        cfg.fit_schedule = False
    new, schedulers = run_length(cfg), _listed(cfg.get('param_scheduler'))
    if not (is_fitted(cfg) and schedulers and old and new):
        return
    by_epoch = 'max_epochs' in cfg.train_cfg
    ends = [s.get('end', 0) for s in schedulers if _counts(s, by_epoch)]
    # A base may be longer than the epochs that a file sets.
    designed = max(old, *ends, 0)
    if designed == new:
        return
    fitted = fit(schedulers, by_epoch, designed, new)
    changes = _changes(schedulers, fitted)
    if changes:
        unit = 'epochs' if by_epoch else 'steps'
        print_log(
            f'schedule of {designed} {unit} fitted to {new}: {changes}',
            logger='current',
        )
        cfg.param_scheduler = fitted


def fit_schedule(runner: Runner) -> None:
    """Fit what a schedule counts in steps to the run, before it starts.

    Args:
        runner: Its data set is read for the number of steps.
    """
    schedulers = _listed(runner.param_schedulers)
    if runner.train_loop is None or not schedulers:
        return
    total = runner.train_loop.max_iters
    ends = [
        s.get('end', 0)
        for s in schedulers
        if _counts(s, False) and not _is_warmup(s)
    ]
    designed = max(ends, default=0)
    if 'max_iters' in runner.cfg.train_cfg:  # `follow_options` has fitted it
        designed = total
    fitted = fit(schedulers, False, designed, total)
    changes = _changes(schedulers, fitted)
    if changes and is_fitted(runner.cfg):
        runner.logger.info(f'schedule fitted to {total} steps: {changes}')
        runner.param_schedulers = fitted
    elif changes and 2 * _warmup(schedulers, False) > total:
        runner.logger.warning(
            f'the warm-up takes {_warmup(schedulers, False)} of {total} '
            f'steps; fit_schedule=True would set {changes}'
        )


def fit(
    schedulers: List[dict], by_epoch: bool, designed: int, total: int
) -> List[dict]:
    """Fit the schedulers of one unit to the length of a run.

    A warm-up by epochs keeps its share; one by steps is cut to
    :data:`WARMUP_SHARE`, but not below two. The rest is stretched between its
    end and that of the run.

    Args:
        schedulers: Their configs.
        by_epoch: Whether those that count epochs or those that count steps.
        designed: Length they are made for, 0 if that is not known.
        total: Length of the run.

    Returns:
        New configs.
    """
    warmup = _warmup(schedulers, by_epoch)
    # In a single unit the rate would not rise.
    converted = any(s.get('convert_to_iter_based') for s in schedulers)
    least = min(warmup, 1 if converted else 2)
    if by_epoch:
        short = max(least, round(warmup * total / designed))
    else:
        short = max(least, min(warmup, int(total * WARMUP_SHARE)))
    stretch = 1.0
    if designed > warmup:
        stretch = (total - short) / (designed - warmup)

    def at(point: int) -> int:
        if point <= warmup:
            return round(point * short / warmup) if warmup else 0
        if designed <= warmup:
            return point
        return round(short + (point - warmup) * stretch)

    fitted = copy.deepcopy(schedulers)
    for scheduler in fitted:
        if _counts(scheduler, by_epoch):
            for key in _POINTS:
                _change(scheduler, key, at)
            for key in _LENGTHS:
                _change(scheduler, key, lambda v: max(1, round(v * stretch)))
            if 'end' in scheduler:  # which may not be empty
                begin = scheduler.get('begin', 0)
                scheduler['end'] = max(scheduler['end'], begin + 1)
    return fitted


def _change(scheduler: dict, key: str, function: Callable) -> None:
    """Apply a function to a number or to each of a list."""
    value = scheduler.get(key)
    if isinstance(value, (list, tuple)):
        scheduler[key] = [function(v) for v in value]
    elif value is not None:
        scheduler[key] = function(value)


def _counts(scheduler: dict, by_epoch: bool) -> bool:
    return scheduler.get('by_epoch', True) == by_epoch


def _is_warmup(scheduler: dict) -> bool:
    """Whether a scheduler starts low, and ends at the full rate."""
    kind = str(scheduler['type']).rpartition('.')[2]
    if scheduler.get('begin', 0) or 'end' not in scheduler:
        return False
    start = scheduler.get('start_factor', scheduler.get('factor', 1 / 3))
    rises = start < scheduler.get('end_factor', 1.0)
    return 'Warmup' in kind or rises and kind.startswith(('Linear', 'Const'))


def _warmup(schedulers: List[dict], by_epoch: bool) -> int:
    """The end of the warm-up, 0 without one."""
    counted = [s for s in schedulers if _counts(s, by_epoch)]
    return max((s['end'] for s in counted if _is_warmup(s)), default=0)


def _listed(schedulers) -> List[dict]:
    """The configs of one optimiser's schedulers; none of several's."""
    if isinstance(schedulers, dict):
        return [schedulers] if 'type' in schedulers else []
    return list(schedulers or [])


def _changes(old: List[dict], new: List[dict]) -> str:
    """What is different, in words; empty if nothing is."""
    return ', '.join(
        f'param_scheduler.{index}.{key} {value} -> {after[key]}'
        for index, (before, after) in enumerate(zip(old, new))
        for key, value in before.items()
        if after[key] != value
    )
