"""Tiny data and the command lines of the tools."""

import atexit
import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from halvit_mm.datasets.shapes import draw_detection_split, draw_folder_split

from ..commands import ROOT

CLASSIFIER = 'configs/demo/halvit_shapes.py'
DETECTOR = 'configs/demo/maskrcnn_halvit_shapes.py'
ONE_EPOCH = ('train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1')
#: Make the studies' ViT a narrow one for `draw_dark_and_light`.
TWO_CLASSES = {
    'model.backbone.arch.embed_dims': 24,
    'model.head.in_channels': 24,
    'model.head.num_classes': 2,
    'data_preprocessor.num_classes': 2,
    'train_dataloader.batch_size': 8,
    **{
        f'{split}_dataloader.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in (('num_workers', 0), ('persistent_workers', False))
    },
}


class Result(NamedTuple):
    """How a tool has ended, and what it has printed."""

    returncode: int
    stdout: str


# Importing takes longer than tiny data: the processes of the tools are forked
# from one that has done so, and nothing else.
imported = multiprocessing.get_context('forkserver')
imported.set_forkserver_preload(
    ['halvit_mm.apis.compress', 'mmdet.apis', 'mmpretrain.apis', __name__]
)


def run_script(argv, environment, output):
    """Run a script as Python does; all that is printed goes to a file."""
    with open(output, 'w') as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment, OMP_NUM_THREADS='1')
    sys.argv = argv
    sys.path.insert(0, os.path.dirname(argv[0]))
    try:
        runpy.run_path(argv[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def tool(name, *args, options=(), check=True, **flags):
    """Run a tool, ``work_dir=x`` as ``--work-dir x``."""
    for flag, value in flags.items():
        args += (f'--{flag.replace("_", "-")}', value)
    if options:
        args += ('--cfg-options', *options)
    argv = [f'tools/{name}.py', *map(str, args)]
    with tempfile.NamedTemporaryFile('r') as output:
        args = (argv, dict(os.environ), output.name)
        process = imported.Process(target=run_script, args=args)
        process.start()
        process.join()
        result = Result(process.exitcode, output.read())
    if check:
        assert result.returncode == 0, result.stdout[-4000:]
    return result


def draw_dark_and_light(root, number):
    """Images of two classes in the folders of CIFAR-10."""
    generator = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label, name in enumerate(('dark', 'light')):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                image = generator.integers(0, 100, (32, 32, 3)) + 150 * label
                cv2.imwrite(str(folder / f'{i}.png'), image)


def assert_picture(path):
    """There is a picture, and something on it."""
    picture = cv2.imread(str(path))
    assert picture is not None and picture.std() > 5


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
    options = [f'data_root={shapes}/classification', *ONE_EPOCH]
    tool('train', CLASSIFIER, work_dir=work_dir, options=options)
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
    options = [*detection_options, *ONE_EPOCH]
    tool('train', DETECTOR, work_dir=work_dir, amp='bf16', options=options)
    return work_dir
