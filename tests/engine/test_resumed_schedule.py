"""A resumed run follows the schedule of its config, if that has changed."""

import pytest

from halvit_mm.engine import ResumedScheduleHook

from .tiny_run import LENGTH, tiny_runner

WARMUP = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6)


def schedule(epochs, warmup=True):
    cosine = dict(type='CosineAnnealingLR', T_max=epochs, end=epochs)
    return [WARMUP, cosine] if warmup else [cosine]


def rates(folder, epochs, **kwargs):
    """Train and give the rate of each epoch's last step."""
    found = []

    class Watch(ResumedScheduleHook):
        priority = 'LOWEST'

        def after_load_checkpoint(self, runner, checkpoint):
            pass

        def before_train(self, runner):
            pass

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            (group,) = runner.optim_wrapper.optimizer.param_groups
            found.append(group['lr'])

    hooks = [ResumedScheduleHook(), Watch()]
    runner = tiny_runner(
        folder, dict(interval=1), epochs, custom_hooks=hooks, **kwargs
    )
    runner.train()
    return found


@pytest.mark.parametrize('warmup', [False, True])
def test_a_longer_one(tmp_path, warmup):
    whole = rates(tmp_path / 'a', 6, param_scheduler=schedule(6, warmup))
    rates(tmp_path / 'b', 2, param_scheduler=schedule(2, warmup))
    resumed = rates(
        tmp_path / 'b',
        6,
        param_scheduler=schedule(6, warmup),
        resume=True,
        load_from=str(tmp_path / 'b/epoch_2.pth'),
    )
    assert resumed == pytest.approx(whole[2 * LENGTH :], rel=1e-12)


def test_the_same_one_is_that_of_the_checkpoint(tmp_path):
    whole = rates(tmp_path, 4, param_scheduler=schedule(4))
    resumed = rates(
        tmp_path,
        4,
        param_scheduler=schedule(4),
        resume=True,
        load_from=str(tmp_path / 'epoch_2.pth'),
    )
    assert resumed == whole[2 * LENGTH :]
