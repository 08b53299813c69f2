"""Trainings in processes of their own, which are told to end."""

import os
import signal
import subprocess
import sys
import time

import torch

from ..commands import ROOT


def options_of(shapes, epochs=3):
    """Options of a training with a line of the log for each step."""
    return [
        f'data_root={shapes}/classification',
        f'train_cfg.max_epochs={epochs}',
        'train_cfg.val_interval=9',
        'train_dataloader.batch_size=2',
        f'default_hooks.checkpoint.interval={3 * epochs}',
        'default_hooks.logger.interval=1',
    ]


def start(command, work_dir, options, steps=3):
    """Start a training and wait for some of its steps.

    Returns:
        The process, which leads a group as that of a terminal.
    """
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
        start_new_session=True,
        # A shell's background jobs, the tests among them, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        text=True,
    )
    output = []
    for line in process.stdout:
        output.append(line)
        steps -= 'Epoch(train)' in line
        if not steps:
            return process
    raise AssertionError(f'it ended too soon: {"".join(output)[-2000:]}')


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def processes_of(folder):
    """Ids of the processes that work in a folder."""
    command = ('pgrep', '-f', str(folder))
    found = subprocess.run(command, capture_output=True, text=True).stdout
    return found.split()


def wait_until_gone(folder, seconds=30):
    """Wait until no process works in a folder; returns the seconds it took."""
    start = time.monotonic()
    while processes_of(folder):
        if time.monotonic() - start > seconds:
            raise AssertionError(f'still there: {processes_of(folder)}')
        time.sleep(0.1)
    return time.monotonic() - start
