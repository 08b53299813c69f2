"""Tiny data and the command lines of the tools."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from halvit_mm.datasets.shapes import draw_detection_split, draw_folder_split

ROOT = Path(__file__).parents[2]


def run(*command, check=True):
    """Run from the repository's root; its output where it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check:
        assert result.returncode == 0, result.stdout[-4000:]
    return result


def tool(name, *args, check=True):
    return run(sys.executable, f'tools/{name}.py', *args, check=check)


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """Ten training images, four for evaluation, forty single shapes."""
    root = tmp_path_factory.mktemp('shapes')
    draw_detection_split(root / 'detection', 'train', 10, seed=0)
    draw_detection_split(root / 'detection', 'val', 4, seed=1)
    draw_folder_split(root / 'classification', 'train', 40, seed=2)
    draw_folder_split(root / 'classification', 'val', 8, seed=3)
    return root


@pytest.fixture(scope='session')
def pretrained(shapes, tmp_path_factory):
    """The work directory of one epoch of pretraining."""
    work_dir = tmp_path_factory.mktemp('pretrain')
    tool(
        'train',
        'configs/demo/halvit_shapes.py',
        '--work-dir',
        work_dir,
        '--cfg-options',
        f'data_root={shapes}/classification',
        'train_cfg.max_epochs=1',
        'default_hooks.checkpoint.interval=1',
    )
    return work_dir


@pytest.fixture(scope='session')
def detection_options(shapes, pretrained):
    return [
        f'data_root={shapes}/detection',
        f'model.backbone.init_cfg.checkpoint={pretrained}/epoch_1.pth',
        'train_dataloader.batch_size=2',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.logger.interval=1',
        'log_processor.window_size=1',
    ]


@pytest.fixture(scope='session')
def detected(detection_options, tmp_path_factory):
    """The work directory of one epoch of detection from those weights."""
    work_dir = tmp_path_factory.mktemp('detect')
    tool(
        'train',
        'configs/demo/maskrcnn_halvit_shapes.py',
        '--work-dir',
        work_dir,
        '--amp',
        'bf16',
        '--cfg-options',
        *detection_options,
        'train_cfg.max_epochs=1',
    )
    return work_dir
