"""What stands still is ended and tells where; what works is left alone."""

import contextlib
import os
import re
import signal
import time
from datetime import timedelta

import pytest
import torch.distributed as dist
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator

from halvit_mm.apis import training
from halvit_mm.engine import HUNG_STATUS, Watchdog, watchdog, watched

from ..tools.conftest import imported
from .tiny_run import points, tiny_runner

SECONDS = 1.2  # without a sign of life


class StoppedWorker(list):
    """Data of which one sample stops the process that loads it."""

    def __getitem__(self, index):
        if index == 5:
            time.sleep(0.2)  # the batch before is sent
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().__getitem__(index)


class SlowSamples(list):
    """Data whose every batch takes half of the watchdog's patience."""

    def __getitem__(self, index):
        print('sample', flush=True)
        time.sleep(SECONDS / 4)
        return super().__getitem__(index)


class Slow(BaseMetric):
    """Takes longer than the watchdog waits, working or not."""

    def __init__(self, works):
        super().__init__()
        self.works = works

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        end = time.monotonic() + 2.5 * SECONDS
        while time.monotonic() < end:
            time.sleep(0 if self.works else 0.1)
        return dict(score=1.0)


def train(folder, case):
    """Train in this process; all that is printed goes to a file."""
    with open(f'{folder}/output', 'w') as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    loader = dict(
        batch_size=2,
        num_workers=case == 'worker',
        collate_fn=dict(type='default_collate'),
    )
    kinds = dict(worker=StoppedWorker, suspended=SlowSamples)
    data = kinds.get(case, list)(points())
    sampler = dict(type='DefaultSampler', shuffle=False)
    options = {}
    if case.startswith('evaluation'):
        options = dict(
            val_dataloader=dict(loader, dataset=data, sampler=sampler),
            val_evaluator=Evaluator([Slow(case.endswith('works'))]),
            val_cfg={},
        )
    runner = tiny_runner(
        folder,
        dict(interval=1),
        epochs=1,
        train_dataloader=dict(loader, dataset=data, sampler=sampler),
        **options,
    )
    with watched(runner, SECONDS / 60):
        runner.train()


def run(folder, case):
    """Start it; returns the process."""
    process = imported.Process(target=train, args=(str(folder), case))
    process.start()
    return process


@pytest.mark.parametrize('case', ['worker', 'evaluation that sleeps'])
def test_what_stands_still_is_ended(case, tmp_path):
    process = run(tmp_path, case)
    process.join(60)
    text = (tmp_path / 'output').read_text()
    assert process.exitcode == HUNG_STATUS, text[-2000:]
    (stacks,) = tmp_path.glob('*/stacks_rank0.txt')
    kept = stacks.read_text()
    assert f'process 0 of 1 on {os.uname().nodename} stands still' in kept
    assert kept.split(':\n')[0] in text and str(stacks) in text
    if case == 'worker':
        assert 'at the end of step 2 (train)' in kept
        assert 'in _try_get_data' in kept and 'in _try_get_data' in text
        (worker,) = re.findall(r'processes: (\d+) stopped\.', kept)
        for _ in range(50):  # its end takes a moment
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), 0)
                time.sleep(0.1)
                continue
            break
        else:
            raise AssertionError(f'{worker} is still there')
    else:
        assert 'at the end of step 4 (val)' in kept
        assert 'in compute_metrics' in kept


def test_a_long_evaluation_is_left_alone(tmp_path):
    process = run(tmp_path, 'evaluation that works')
    process.join(60)
    assert process.exitcode == 0, (tmp_path / 'output').read_text()[-2000:]
    assert (tmp_path / 'epoch_1.pth').is_file()


@pytest.mark.parametrize(('device', 'ends'), [('cpu', False), ('cuda', True)])
def test_a_step_that_computes(device, ends, monkeypatch):
    """A process that waits for its GPU cannot be told from it."""
    ended = []

    def end(watchdog):
        ended.append(True)
        watchdog._end.set()

    monkeypatch.setattr(Watchdog, '_tell_and_end', end)
    monkeypatch.setattr(watchdog, 'get_device', lambda: device)
    watch = Watchdog(SECONDS / 120, None)
    watch.start()
    watch.before_train_iter(None, 0)
    stop = time.monotonic() + 1.5 * SECONDS
    while time.monotonic() < stop:
        pass
    watch.stop()
    assert bool(ended) == ends


def test_a_suspended_run_goes_on(tmp_path):
    process = run(tmp_path, 'suspended')
    output = tmp_path / 'output'
    while not output.is_file() or output.read_text().count('sample') < 3:
        time.sleep(0.05)
    time.sleep(SECONDS / 6)  # the sign of the first step was seen
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(2.5 * SECONDS)
    os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    assert process.exitcode == 0, output.read_text()[-2000:]


def test_it_watches_during_the_run_only(tmp_path):
    runner = tiny_runner(tmp_path, dict(interval=1))
    with pytest.raises(KeyError), watched(runner, SECONDS / 600):
        raise KeyError
    time.sleep(SECONDS / 4)  # this process would be ended
    with watched(runner, None):
        time.sleep(SECONDS / 4)
    with pytest.raises(ValueError, match='watchdog_minutes=0'):
        watched(runner, 0).__enter__()


@pytest.mark.parametrize(
    ('env_cfg', 'seconds'),
    [({}, 1800), (dict(env_cfg=dict(dist_cfg=dict(timeout=7))), 7)],
)
def test_processes_wait_for_half_an_hour(env_cfg, seconds, monkeypatch):
    def start(backend, timeout):
        assert backend == 'gloo' and timeout == timedelta(seconds=seconds)

    def build(cfg):  # which starts NCCL, where there is a GPU
        assert cfg.env_cfg.dist_cfg.timeout == seconds
        raise InterruptedError

    monkeypatch.setattr(dist, 'init_process_group', start)
    monkeypatch.setattr(training.torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(training.Runner, 'from_cfg', build)
    with pytest.raises(InterruptedError):
        training.build_runner(Config(dict(launcher='pytorch', **env_cfg)))
