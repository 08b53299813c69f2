"""N steps are k steps and a resumed run, to the bit."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from halvit_mm.checkpoint import find_checkpoint
from halvit_mm.datasets.shapes import draw_folder_split
from halvit_mm.engine import (
    ResumableBatchSampler,
    StepCheckpointHook,
    make_exact,
)
from halvit_mm.engine.preemption import SIGNALS

from .exact_run import EPOCHS, STEPS, check_resumed, state_of, train


class ScaledOptimWrapper(AmpOptimWrapper):
    """The host's for float16, which needs a GPU, with its scaler."""

    def __init__(self, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', growth_interval=3)
        self.cast_dtype, self._scale_update_param = torch.bfloat16, None


def recipe(root):
    """Settings with all that draws in a recipe of DeiT."""
    if not root.is_dir():
        draw_folder_split(root, 'train', 2 * STEPS, seed=0)
    model = dict(
        type='ImageClassifier',
        backbone=dict(
            type='halvit_mm.HaLViT',
            arch=dict(
                embed_dims=24,
                num_layers=2,
                num_heads=2,
                feedforward_channels=48,
            ),
            img_size=64,
            patch_size=16,
            drop_path_rate=0.5,
            out_type='avg_featmap',
            with_cls_token=False,
        ),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=24),
        data_preprocessor=dict(num_classes=3, mean=[127.5], std=[64.0]),
        train_cfg=dict(
            augments=[
                dict(type='Mixup', alpha=0.8),
                dict(type='CutMix', alpha=1.0),
            ]
        ),
    )
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=64),
        dict(type='RandomFlip', prob=0.5),
        dict(type='RandomErasing', erase_prob=0.5, mode='rand'),
        dict(type='PackInputs'),
    ]
    dataset = dict(
        type='CustomDataset',
        data_root=str(root),
        data_prefix='train',
        pipeline=pipeline,
    )
    loader = dict(
        dataset=dataset,
        sampler=dict(type='RepeatAugSampler'),
        batch_size=2,
        num_workers=2,
    )
    optim_wrapper = dict(
        type=ScaledOptimWrapper,
        optimizer=dict(type='AdamW', lr=1e-3),
        clip_grad=dict(max_norm=1.0),
    )
    return dict(
        model=model,
        train_dataloader=loader,
        optim_wrapper=optim_wrapper,
        default_scope='mmpretrain',
    )


@pytest.mark.parametrize('end', [3, 4, 6])
@pytest.mark.parametrize('workers', [0, 2])
def test_resumed(tmp_path, end, workers):
    check_resumed(tmp_path, end, workers=workers)


def test_a_recipe_of_a_classifier(tmp_path):
    whole = check_resumed(tmp_path, 6, lambda: recipe(tmp_path / 'images'))
    scaler = whole.optim_wrapper.loss_scaler
    assert scaler.get_scale() == 2**16 * 2 ** (EPOCHS * STEPS // 3)


def test_samples_differ_by_epoch_and_seed(tmp_path):
    _, losses = train(tmp_path)
    assert len(set(losses.values())) == EPOCHS * STEPS


def test_another_batch_begins_the_epoch_anew(tmp_path):
    train(tmp_path, end=6)
    (tmp_path / 'middle.pth').rename(tmp_path / 'start.pth')
    watch = train(
        tmp_path, resume=str(tmp_path / 'start.pth'), batch_size=4, steps=2
    )[1]
    assert sorted(watch) == [2, 3, 4, 5]  # epochs of two steps


def test_batches_of_another_sampler_keep_their_places():
    sampler = torch.utils.data.SequentialSampler(range(10))
    sampler.epoch = 7
    batches = ResumableBatchSampler(sampler, 4, seed=3)
    assert [list(map(int, b)) for b in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    batches.skipped = 2
    (last,) = batches
    assert [i.where for i in last] == [(3, 7, 0, 2, 0), (3, 7, 0, 2, 1)]
    assert len(batches) == len(list(batches)) == 3


def test_only_trainings_by_epochs_are_changed(tmp_path):
    loop = dict(type='IterBasedTrainLoop', max_iters=9)
    runner = SimpleNamespace(_train_loop=loop, _train_dataloader=dict(x=1))
    assert not make_exact(runner)
    assert runner._train_dataloader == dict(x=1)


@pytest.mark.parametrize('moment', ['train', 'val'])
def test_a_signal_between_and_within_epochs(tmp_path, moment):
    """The averages are evaluated, and the trained weights are saved."""

    class Ask(Hook):
        """Sends a signal in the second epoch or after it."""

        priority = 'NORMAL'

        def after_train_iter(self, runner, *args, **kwargs):
            if moment == 'train' and runner.iter == STEPS + 1:
                os.kill(os.getpid(), signal.SIGTERM)

        def before_val_epoch(self, runner):
            if moment == 'val' and runner.epoch == 2:
                # as a terminal does, to all of a group
                workers = runner.val_loop.dataloader._iterator._workers
                for process in [os.getpid(), workers[0].pid]:
                    if os.getpgid(process) == os.getpgid(0):
                        os.kill(process, signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    whole, losses = train(tmp_path / 'whole', validate=True)
    folder = tmp_path / 'parts'
    with pytest.raises(SystemExit) as info:
        train(
            folder,
            validate=True,
            val_workers=1,
            hooks=[Ask(), StepCheckpointHook()],
        )
    signal.signal(signal.SIGTERM, before)
    assert info.value.code == 75
    (saved,) = folder.glob('step_*.pth')
    done = STEPS + 2 if moment == 'train' else 2 * STEPS
    assert saved.name == f'step_{done}.pth'
    assert find_checkpoint(folder) == str(saved)
    resumed, second = train(
        folder,
        resume=str(saved),
        validate=True,
        hooks=[StepCheckpointHook(interval=3)],
    )
    assert second == {k: v for k, v in losses.items() if k >= done}
    here, there = state_of(resumed), state_of(whole)
    assert all(torch.equal(here[k], there[k]) for k in here)
    assert not list(folder.glob('step_*.pth'))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_has_just_begun(number):
    """It has the handlers of its parent, which waits for its end."""
    hook = StepCheckpointHook()
    before = {n: signal.getsignal(n) for n in SIGNALS}
    hook.before_train(SimpleNamespace(train_loop=None, val_loop=None))
    worker = os.fork()
    if not worker:
        time.sleep(0.5)
        os._exit(7)
    time.sleep(0.1)
    os.kill(worker, number)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    for n, handler in before.items():
        signal.signal(n, handler)
    assert status == (0 if number == signal.SIGTERM else 7)


@pytest.mark.parametrize('spoilt', [False, True])
def test_the_last_finite_step_is_kept(tmp_path, spoilt):
    class Spoil(Hook):
        def before_train_iter(self, runner, *args, **kwargs):
            if spoilt and runner.iter == 4:
                runner.model.layer.bias.data.fill_(torch.nan)

    hooks = [Spoil(), StepCheckpointHook(interval=3)]
    train(tmp_path, end=7, hooks=hooks)
    found = sorted(path.name for path in tmp_path.glob('step_*.pth'))
    assert found == ['step_3.pth', 'step_6.pth'][not spoilt :]
    (tmp_path / 'middle.pth').unlink()
    best = 'step_3.pth' if spoilt else 'step_6.pth'
    assert find_checkpoint(tmp_path) == str(tmp_path / best)
