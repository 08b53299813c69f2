"""Scores that mean nothing are named where the best one is saved."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger

from halvit_mm.engine import AgreementHook


@pytest.mark.parametrize('save_best', ['coco/bbox_mAP', 'auto'])
@pytest.mark.parametrize('score', [-1.0, float('nan'), 0.0, None])
def test_one_line_names_the_score(save_best, score, caplog):
    scores = {'coco/bbox_mAP': score, 'coco/segm_mAP': 0.5}
    if score is None:
        del scores['coco/bbox_mAP']
    hook = CheckpointHook(save_best=save_best, rule='greater')
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        AgreementHook().after_val_epoch(SimpleNamespace(hooks=[hook]), scores)
    logger.removeHandler(caplog.handler)
    said = [r.getMessage() for r in caplog.records]
    if score == 0 or (score is None and save_best == 'auto'):  # the next one
        assert said == []
        return
    problem = (
        "not among the scores, ['coco/segm_mAP']"
        if score is None
        else f'{score:g}, as where there is nothing to average'
    )
    assert said == [
        f'save_best: coco/bbox_mAP is {problem}: this evaluation saves no '
        'best checkpoint for it'
    ]
