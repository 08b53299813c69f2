"""NaN and infinity reach neither weights nor checkpoints."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import MMLogger

from halvit_mm.checkpoint import find_checkpoint, not_finite
from halvit_mm.engine import BrokenNumbersError, BrokenNumbersHook

from .tiny_run import LENGTH, points, tiny_runner

CLIP = dict(clip_grad=dict(max_norm=1.0))


@pytest.fixture
def log(caplog):
    """What mmengine's logger of the run says; it propagates to no other."""
    yield caplog
    MMLogger.get_current_instance().removeHandler(caplog.handler)


class Spoil(Hook):
    """Makes gradients and averages NaN; keeps what is rolled back to."""

    priority = 'HIGH'

    def __init__(self, hook):
        self.hook, self.found = hook, None

    def before_train_iter(self, runner, *args, **kwargs):
        if self.hook._rolled_back_to and self.found is None:
            (ema,) = (h for h in runner.hooks if isinstance(h, EMAHook))
            states = runner.model.state_dict(), ema.ema_model.state_dict()
            self.found = [
                {k: v.clone() for k, v in state.items()} for state in states
            ]
        runner.model.layer.bias.data.fill_(torch.nan)


def run(folder, log, hook=None, spoil=(), epochs=3, lr=0.1, clip=False):
    """Train with NaN in some of the points; returns the runner."""
    hook = hook or BrokenNumbersHook()
    runner = tiny_runner(
        folder,
        dict(interval=1, max_keep_ckpts=1),
        epochs,
        custom_hooks=[hook],
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=lr), **(CLIP if clip else {})
        ),
        param_scheduler=None,
    )
    runner.logger.addHandler(log.handler)
    data = points()
    for index in spoil:
        data[index]['inputs'][0] = torch.nan
    runner._train_dataloader['dataset'] = data
    runner.train()
    return runner


@pytest.mark.parametrize('clip', [False, True])
def test_a_nan_in_one_image_skips_its_steps(tmp_path, log, clip):
    runner = run(tmp_path, log, spoil=[3], clip=clip)
    assert runner.iter == 3 * LENGTH
    assert not_finite(runner.model.state_dict()) == []
    lines = [r.message for r in log.records if 'skipped' in r.message]
    assert len(lines) == 3  # once in each epoch
    assert all("losses ['loss'] not finite, skipped (1 in" in x for x in lines)


def test_other_steps_are_as_without_the_hook(tmp_path, log):
    plain = tiny_runner(
        tmp_path / 'a',
        dict(interval=1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=None,
    )
    plain.train()
    hooked = run(tmp_path / 'b', log)
    for a, b in zip(plain.model.parameters(), hooked.model.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize('max_skipped', [0, 2])
def test_too_many_in_a_row_end_the_run(tmp_path, log, max_skipped):
    hook = BrokenNumbersHook(max_skipped)
    message = rf'\({max_skipped + 1} in a row.*last good checkpoint is None'
    with pytest.raises(BrokenNumbersError, match=message):
        run(tmp_path, log, hook, spoil=range(8))


def test_an_infinite_rate_ends_the_run_with_a_good_checkpoint(tmp_path, log):
    run(tmp_path, log, epochs=1)
    with pytest.raises(BrokenNumbersError, match=r'not finite: .*epoch_1.pth'):
        run(tmp_path, log, lr=float('inf'))
    assert find_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')


def test_rolling_back(tmp_path, log):
    """With averages, which files hold in the place of the weights."""
    ema = dict(custom_hooks=[EMAHook('ExponentialMovingAverage', 0.1)])
    settings = dict(
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=None,
    )
    interval = dict(interval=1)
    good = tiny_runner(tmp_path, interval, 1, **settings, **ema)
    good.train()
    spoilt = Spoil(BrokenNumbersHook(max_skipped=0, roll_back=True))
    runner = tiny_runner(
        tmp_path,
        interval,
        2,
        **settings,
        custom_hooks=[*ema['custom_hooks'], spoilt.hook, spoilt],
    )
    runner.logger.addHandler(log.handler)
    with pytest.raises(BrokenNumbersError):  # the second time
        runner.train()
    text = f'back to the weights and the optimiser of {tmp_path}/epoch_1.pth'
    assert text in log.text
    (averages,) = (h.ema_model for h in good.hooks if isinstance(h, EMAHook))
    online, averaged = spoilt.found
    for name, value in good.model.state_dict().items():
        assert torch.equal(online[name], value)
        assert torch.equal(
            averaged[f'module.{name}'], averages.state_dict()[f'module.{name}']
        )


def test_images_are_named():
    sample = SimpleNamespace(metainfo=dict(img_path='a/b.jpg'))
    hook = BrokenNumbersHook(max_skipped=0)
    hook._is_broken = True
    runner = SimpleNamespace(
        iter=6, work_dir='/nowhere', model=torch.nn.Linear(1, 1)
    )
    losses = dict(
        loss_cls=torch.tensor(1.0), loss_mask=torch.tensor(torch.inf)
    )
    message = r"step 7: losses \['loss_mask'\] .*images: \['a/b.jpg'\]"
    with pytest.raises(BrokenNumbersError, match=message):
        hook.after_train_iter(runner, 0, dict(data_samples=[sample]), losses)
