"""Which pictures a training draws, and what ends none."""

import logging
from types import SimpleNamespace

import pytest

from halvit_mm.engine import PicturesHook, pictures


@pytest.fixture
def drawn(monkeypatch):
    """Pictures that are asked for: their files."""
    files = []
    monkeypatch.setattr(
        pictures, 'draw_sample', lambda _, sample, out: files.append(out)
    )
    monkeypatch.setattr(pictures, 'draw_curves', lambda _, out: None)
    return files


class Sample(dict):
    """A result on one image."""

    def __init__(self, number, kind='pred_instances'):
        super().__init__({kind: []})
        self.img_path = f'val/{number}.png'


def validate(hook, batches, size, **kwargs):
    runner = SimpleNamespace(
        val_dataloader=range(batches),
        work_dir='out',
        epoch=3,
        visualizer=SimpleNamespace(_vis_backends={}),
        logger=logging.getLogger('pictures'),
    )
    hook.before_val_epoch(runner)
    for batch in range(batches):
        outputs = [Sample(batch * size + i, **kwargs) for i in range(size)]
        hook.after_val_iter(runner, batch, outputs=outputs)
    hook.after_val_epoch(runner)


@pytest.mark.parametrize(
    ('batches', 'size', 'samples', 'expected'),
    [
        (10, 1, 4, [0, 2, 4, 6]),
        (10, 2, 4, [0, 4, 8, 12]),
        (4, 8, 4, [0, 8, 16, 24]),
        (3, 8, 4, [0, 1, 8, 9]),
        (1, 8, 4, [0, 1, 2, 3]),
        (1, 2, 4, [0, 1]),
        (10, 1, 0, []),
    ],
)
def test_images_are_spread(batches, size, samples, expected, drawn):
    hook = PicturesHook(samples)
    for _ in range(2):  # the same each time
        validate(hook, batches, size)
        assert drawn == [f'out/samples/epoch_3/{i}.jpg' for i in expected]
        drawn.clear()


def test_of_classifiers_there_are_none(drawn):
    validate(PicturesHook(), 2, 2, kind='pred_score')
    assert drawn == []


def test_what_cannot_be_drawn_is_said(drawn, monkeypatch, caplog):
    def full(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr(pictures, 'draw_curves', full)
    validate(PicturesHook(), 2, 2)
    assert caplog.messages == [
        'a picture is not drawn: No space left on device'
    ]
    caplog.clear()
    validate(PicturesHook(curves=False), 2, 2)
    assert caplog.messages == []
