"""A training that is told to end saves its state and goes on exactly."""

import os
import shutil
import signal
import sys
from pathlib import Path

import mmdet
import pytest
import torch

from ..commands import run
from .conftest import CLASSIFIER, free_port, tool
from .trainings import equal, options_of, start, wait_until_gone, weights

LAUNCHER = ('bash', 'tools/dist_train.sh', CLASSIFIER, 2)


@pytest.fixture(scope='module')
def whole(shapes, tmp_path_factory):
    """The weights of an undisturbed run."""
    folder = tmp_path_factory.mktemp('whole')
    tool('train', CLASSIFIER, work_dir=folder, options=options_of(shapes))
    return weights(folder / 'epoch_3.pth')


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


def test_the_launcher_passes_signals_on(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv('PORT', str(free_port()))
    options = [x.replace('size=2', 'size=1') for x in options_of(shapes)]
    process = start(LAUNCHER, tmp_path, options)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output = process.communicate(timeout=25)[0]  # before it is killed
    assert process.returncode == 75, output[-2000:]
    assert 'told to end by SIGUSR1' in output and 'Traceback' not in output
    wait_until_gone(tmp_path)
    (saved,) = tmp_path.glob('*.pth')
    assert torch.load(saved, weights_only=True)['meta']['iter'] >= 3


def test_a_killed_launcher_leaves_no_process(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv('PORT', str(free_port()))
    options = [x.replace('size=2', 'size=1') for x in options_of(shapes)]
    process = start(LAUNCHER, tmp_path, options)
    process.kill()
    process.communicate()
    wait_until_gone(tmp_path, 10)


def test_the_tool_of_mmdet_resumes_our_run(pretrained, tmp_path):
    """From the run's folder, which may have been moved."""
    script = Path(mmdet.__file__).parent / '.mim/tools/train.py'
    folder = shutil.copytree(pretrained, tmp_path / 'moved')
    result = run(
        *(sys.executable, script, Path(CLASSIFIER).name, '--work-dir', '.'),
        *('--resume', '--cfg-options', 'train_cfg.max_epochs=2'),
        cwd=folder,
    )
    assert 'resumed epoch: 1, iter: 3' in result.stdout
    assert weights(folder / 'epoch_2.pth')
    assert (folder / 'last_checkpoint').read_text() == 'epoch_2.pth'
