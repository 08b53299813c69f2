"""A training that is told to end saves its state and goes on exactly."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from .conftest import CLASSIFIER, ROOT, free_port, tool


def options_of(shapes):
    return [
        f'data_root={shapes}/classification',
        'train_cfg.max_epochs=3',
        'train_cfg.val_interval=9',
        'train_dataloader.batch_size=2',
        'default_hooks.checkpoint.interval=9',
        'default_hooks.logger.interval=1',
    ]


def start(command, work_dir, options):
    """Start a training and wait for its third step; returns the process."""
    process = subprocess.Popen(
        [
            *map(str, command),
            '--work-dir',
            work_dir,
            '--cfg-options',
            *options,
        ],
        cwd=ROOT,
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if '[ 3/20]' in line:
            return process
    raise AssertionError('it ended before its third step')


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


@pytest.fixture(scope='module')
def whole(shapes, tmp_path_factory):
    """The weights of an undisturbed run."""
    folder = tmp_path_factory.mktemp('whole')
    tool('train', CLASSIFIER, work_dir=folder, options=options_of(shapes))
    return weights(folder / 'epoch_3.pth')


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_signal_and_a_resumed_run(shapes, whole, tmp_path):
    options = options_of(shapes)
    command = (sys.executable, 'tools/train.py', CLASSIFIER)
    process = start(command, tmp_path, options)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output[-2000:]
    assert 'told to end by SIGTERM: the state is saved' in output
    (saved,) = tmp_path.glob('*.pth')
    assert saved.name.startswith('step_')
    arguments = (CLASSIFIER, '--resume')
    tool('train', *arguments, work_dir=tmp_path, options=options)
    assert equal(weights(tmp_path / 'epoch_3.pth'), whole)


def processes_of(folder):
    """Ids of the processes that work in a folder."""
    command = ('pgrep', '-f', str(folder))
    found = subprocess.run(command, capture_output=True, text=True).stdout
    return found.split()


def wait_until_gone(folder, seconds=30):
    for _ in range(10 * seconds):
        if not processes_of(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f'still there: {processes_of(folder)}')


def test_the_launcher_passes_signals_on(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv('PORT', str(free_port()))
    command = ('bash', 'tools/dist_train.sh', CLASSIFIER, 2)
    options = [x.replace('size=2', 'size=1') for x in options_of(shapes)]
    process = start(command, tmp_path, options)
    process.send_signal(signal.SIGUSR1)
    output = process.communicate(timeout=25)[0]  # before it is killed
    assert 'told to end by SIGTERM' in output, output[-2000:]
    wait_until_gone(tmp_path)
    (saved,) = tmp_path.glob('*.pth')
    assert torch.load(saved, weights_only=True)['meta']['iter'] >= 3


def test_a_killed_launcher_leaves_no_process(shapes, tmp_path):
    launcher = ('-m', 'torch.distributed.run', '--nproc-per-node=2')
    port = f'--master-port={free_port()}'
    script = ('tools/train.py', CLASSIFIER, '--launcher', 'pytorch')
    command = (sys.executable, *launcher, port, *script)
    options = [x.replace('size=2', 'size=1') for x in options_of(shapes)]
    process = start(command, tmp_path, options)
    process.kill()
    process.communicate()
    wait_until_gone(tmp_path, 10)
