"""Event files, read back by TensorBoard itself."""

import json
import shutil

import pytest
from mmengine.config import Config

from halvit_mm.apis import add_tensorboard, tensorboard

from ..commands import ROOT
from ..engine.tiny_run import LENGTH, tiny_runner
from ..tools.conftest import DETECTOR
from .test_cli import end_of


def watched_run(folder, **cfg):
    """Train three epochs, whose steps are all logged; returns the losses."""
    cfg = Config(dict(work_dir=str(folder), **cfg))
    add_tensorboard(cfg)
    runner = tiny_runner(
        folder,
        {},
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='halvit_mm.CheckpointHook', interval=1),
        ),
        visualizer=cfg.visualizer,
        load_from=cfg.get('load_from'),
        resume=cfg.get('resume', False),
        # two runs in one second are not one visualizer
        experiment_name=f'{folder} {cfg}',
    )
    runner.train()
    path = runner.visualizer.get_backend('LocalVisBackend')._scalar_save_file
    with open(path) as file:
        return {r['step']: r['loss'] for r in map(json.loads, file)}


def test_a_resumed_run_goes_on_in_one_curve(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing import event_accumulator

    def curve():
        folder = str(tmp_path / 'run' / 'tensorboard')
        events = event_accumulator.EventAccumulator(folder)
        points = events.Reload().Scalars('loss')
        return [(point.step, point.value) for point in points]

    losses = watched_run(tmp_path / 'run')
    steps = list(range(1, 3 * LENGTH + 1))
    assert list(losses) == steps
    assert curve() == [(s, pytest.approx(losses[s])) for s in steps]
    # Killed after the second epoch was logged, it goes on after the first.
    start = shutil.copy(tmp_path / 'run' / 'epoch_1.pth', tmp_path)
    again = watched_run(tmp_path / 'run', resume=True, load_from=start)
    assert set(again) >= set(steps[LENGTH:])
    assert len(list(tmp_path.glob('run/tensorboard/events.*'))) == 2
    expected = {**losses, **again}
    assert curve() == [(s, pytest.approx(expected[s])) for s in steps]


def test_it_is_added_to_what_is_there(monkeypatch):
    monkeypatch.setattr(tensorboard, 'find_spec', lambda name: True)
    local = dict(type='LocalVisBackend')
    for given, type_ in ((local, 'X'), ([local], 'X'), (None, 'Visualizer')):
        cfg = Config(dict(work_dir='out'))
        if given:
            cfg.visualizer = dict(type=type_, vis_backends=given)
        add_tensorboard(cfg)
        assert cfg.visualizer == dict(
            type=type_,
            vis_backends=[
                local,
                dict(
                    type='halvit_mm.TensorboardVisBackend',
                    save_dir='out/tensorboard',
                    purge_step=None,
                ),
            ],
        )


def test_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tensorboard, 'find_spec', lambda name: None)
    args = [DETECTOR, '--log', 'tensorboard', '--work-dir', tmp_path]
    assert end_of('train', args, monkeypatch) == (
        '--log tensorboard: TensorBoard is not installed; '
        "pip install 'halvit-mm[log]', or pip install tensorboard"
    )
    assert not list(tmp_path.iterdir())
