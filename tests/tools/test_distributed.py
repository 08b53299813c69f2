"""Two processes on the CPU: gloo, chosen by itself."""

import sys

import pytest
import torch

from ..commands import ROOT, run
from .conftest import CLASSIFIER, ONE_EPOCH, free_port, tool


def options_of(shapes, batch_size):
    return [
        f'data_root={shapes}/classification',
        *ONE_EPOCH,
        'train_cfg.val_interval=2',
        # No augmentation and no shuffling: both see the same batches.
        'train_dataloader.dataset.pipeline.1.prob=0.0',
        'train_dataloader.sampler.shuffle=False',
        f'train_dataloader.batch_size={batch_size}',
        # Adam would turn rounding into whole steps where a gradient is zero,
        # as the key's bias has it.
        'optim_wrapper.optimizer._delete_=True',
        'optim_wrapper.optimizer.type=SGD',
        'optim_wrapper.optimizer.lr=0.05',
    ]


def test_classification_equals_one_process(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv('PORT', str(free_port()))
    one, two = tmp_path / 'one', tmp_path / 'two'
    tool('train', CLASSIFIER, work_dir=one, options=options_of(shapes, 8))
    output = run(
        *('bash', 'tools/dist_train.sh', CLASSIFIER, 2, '--work-dir', two),
        *('--cfg-options', *options_of(shapes, 4)),
    ).stdout
    assert 'Epoch(train) [1][5/5]' in output or '[5/5]' in output
    single, double = (
        torch.load(folder / 'epoch_1.pth', weights_only=True)['state_dict']
        for folder in (one, two)
    )
    torch.testing.assert_close(double, single, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def ranks(detection_options, tmp_path_factory):
    """The folder of what each rank holds after a training."""
    out = tmp_path_factory.mktemp('ranks')
    run(
        *(sys.executable, '-m', 'torch.distributed.run'),
        *('--nproc-per-node=2', f'--master-port={free_port()}'),
        ROOT / 'tests/tools/train_and_dump_ranks.py',
        *detection_options,
        'train_dataloader.batch_size=1',
        'train_cfg.max_epochs=1',
        OUT=str(out),
    )
    return out


@pytest.mark.parametrize('frozen_stages', [0, 2])
def test_detection_ranks_agree(ranks, frozen_stages):
    first, second = (
        torch.load(
            ranks / f'{frozen_stages}/rank{rank}.pth', weights_only=True
        )
        for rank in (0, 1)
    )
    assert first['losses'] and all(
        map(torch.isfinite, map(torch.tensor, first['losses']))
    )
    assert first['steps'] == second['steps'] == 5
    for name, value in first['state_dict'].items():
        assert torch.equal(value, second['state_dict'][name]), name
    weight = 'backbone.layers.0.attn.kv.weight'
    moved = not torch.equal(
        first['state_dict'][weight], first['initial'][weight]
    )
    assert moved == (frozen_stages == 0)
