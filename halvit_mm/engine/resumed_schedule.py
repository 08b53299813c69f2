"""A schedule that has been changed goes on from where it would be."""

from typing import Any, List, Tuple

from mmengine.hooks import Hook

from ..registry import HOOKS

#: Entries of a scheduler's state that tell how far it is.
_PROGRESS = ('base_values', 'last_step', '_global_step', '_last_value')


@HOOKS.register_module()
class ResumedScheduleHook(Hook):
    """Lets a resumed run follow the schedule of its config.

    mmengine restores the schedule of the checkpoint, so that the epochs which
    a longer run adds keep the last rate. Where the two differ, that of the
    config is followed from its first step to the present one.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._start: List[Tuple[dict, list]] = []
        self._changes: List[str] = []

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare the schedules, before those of the checkpoint are loaded."""
        states = checkpoint.get('param_schedulers')
        schedulers = runner.param_schedulers
        if not (runner.cfg.get('resume') and isinstance(schedulers, list)):
            return
        if not isinstance(states, list):
            return
        if len(states) != len(schedulers):
            self._changes = [f'{len(states)} -> {len(schedulers)} schedulers']
        for i, (there, scheduler) in enumerate(zip(states, schedulers)):
            here = scheduler.state_dict()
            self._changes += [
                f'{i}.{key} {there[key]} -> {here[key]}'
                for key in here
                if key not in _PROGRESS
                and key in there
                and here[key] != there[key]
            ]
        self._start = [
            (
                s.state_dict(),
                [g[s.param_name] for g in s.optimizer.param_groups],
            )
            for s in schedulers
        ]
        if self._changes:
            checkpoint['param_schedulers'] = [s for s, _ in self._start]

    def before_train(self, runner: Any) -> None:
        """Follow the changed schedule to the present step."""
        if not self._changes:
            return
        schedulers = runner.param_schedulers
        for scheduler, (state, values) in zip(schedulers, self._start):
            scheduler.load_state_dict(state)
            groups = scheduler.optimizer.param_groups
            for group, value in zip(groups, values):
                group[scheduler.param_name] = value
        length = len(runner.train_loop.dataloader)
        for step in range(1, runner.iter + 1):
            ends_epoch = step % length == 0
            for scheduler in schedulers:
                if not scheduler.by_epoch or ends_epoch:
                    scheduler.step()
        rates = sorted(
            {
                group['lr']
                for s in schedulers
                for group in s.optimizer.param_groups
            }
        )
        runner.logger.info(
            f'the schedule has changed ({", ".join(self._changes)}): goes on '
            f'at {runner.iter} steps with a rate of {rates[-1]:.3g}'
        )
