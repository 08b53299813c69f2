"""Curves of a run that was resumed."""

import json

import pytest

from halvit_mm.visualization.curves import read_scalars


def log(work_dir, time, *records):
    path = work_dir / time / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)))


def test_a_resumed_run_replaces_what_came_after_its_start(tmp_path):
    losses = [dict(loss=float(step), step=step) for step in range(1, 7)]
    scores = [{'coco/bbox_mAP': 0.1 * e, 'step': e} for e in (1, 2)]
    log(tmp_path, '20260101_000000', *losses[:4], scores[0])
    again = [dict(loss=-1.0, step=step) for step in (3, 4, 5)]
    log(tmp_path, '20260102_000000', *again, scores[1])
    series = read_scalars(str(tmp_path))
    assert series['loss'] == [(1, 1), (2, 2), (3, -1), (4, -1), (5, -1)]
    assert series['coco/bbox_mAP'] == [(1, 0.1), (2, 0.2)]


def test_without_a_log(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no training log'):
        read_scalars(str(tmp_path))
    log(tmp_path, '20260101_000000')
    with pytest.raises(ValueError, match='scalars.json holds no scalars'):
        read_scalars(str(tmp_path))
