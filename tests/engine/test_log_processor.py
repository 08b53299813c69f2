"""Speed and memory in the log."""

import json

import pytest
import torch

from .tiny_run import tiny_runner


def scalars(folder):
    (file,) = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize('prefix', ['', 'train/'])
def test_images_a_second(prefix, tmp_path):
    runner = tiny_runner(
        tmp_path,
        {},
        epochs=1,
        log_processor=dict(
            type='halvit_mm.LogProcessor',
            log_with_hierarchy=bool(prefix),
        ),
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
        ),
    )
    runner.train()
    records = scalars(tmp_path)
    assert len(records) == 1  # the host logs the end of a short epoch
    for record in records:
        speed = record[f'{prefix}images_per_s']
        assert speed == pytest.approx(2 / record[f'{prefix}time'])
        if not torch.cuda.is_available():
            assert 50 < record['memory'] < 2**20  # MiB
