"""Best score, final score, and their difference."""

import json
import logging
from types import SimpleNamespace

import pytest

from halvit_mm.engine import PeakToFinalHook


def runner(tmp_path, epoch=0):
    return SimpleNamespace(
        epoch=epoch,
        logger=logging.getLogger('peak'),
        work_dir=str(tmp_path),
        val_loop=None,
    )


def validate(hook, fake, *scores):
    for score in scores:
        fake.epoch += 1
        metrics = {'accuracy/top1': score, 'accuracy/top5': 90}
        hook.after_val_epoch(fake, metrics)


def read(tmp_path):
    return json.loads((tmp_path / 'peak_to_final.json').read_text())


def test_figures(tmp_path, caplog):
    hook, fake = PeakToFinalHook(), runner(tmp_path)
    hook.before_train(fake)
    validate(hook, fake, 40.0, 60.0, 57.5)
    with caplog.at_level(logging.INFO):
        hook.after_train(fake)
    assert read(tmp_path) == dict(
        metric='accuracy/top1',
        best=60.0,
        best_epoch=2,
        final=57.5,
        difference=2.5,
        scores=[40.0, 60.0, 57.5],
        metrics={'accuracy/top1': 57.5, 'accuracy/top5': 90.0},
    )
    assert 'best 60.0000 in epoch 2, final 57.5000' in caplog.text


def test_a_resumed_run_remembers(tmp_path):
    validate(PeakToFinalHook(), runner(tmp_path), 60.0, 50.0, 70.0)
    hook, fake = PeakToFinalHook(), runner(tmp_path, epoch=2)
    hook.before_train(fake)  # from the second epoch: 70 is of no run
    validate(hook, fake, 55.0)
    assert read(tmp_path)['scores'] == [60.0, 50.0, 55.0]
    assert read(tmp_path)['difference'] == 5.0
    # a run that starts anew does not
    hook, fake = PeakToFinalHook(), runner(tmp_path)
    hook.before_train(fake)
    validate(hook, fake, 10.0)
    assert read(tmp_path)['scores'] == [10.0]


def test_epochs_without_a_validation(tmp_path):
    hook, fake = PeakToFinalHook(), runner(tmp_path, epoch=1)
    validate(hook, fake, 50.0)
    assert read(tmp_path)['scores'] == [None, 50.0]
    again = PeakToFinalHook()
    again.before_train(runner(tmp_path, epoch=2))
    assert again._scores == {2: 50.0}


def test_a_run_that_ended_before_its_last_validation(tmp_path):
    """Its checkpoint is the last one, its score is missing."""
    validate(PeakToFinalHook(), runner(tmp_path), 60.0)
    hook, fake = PeakToFinalHook(), runner(tmp_path, epoch=2)

    class ValLoop:
        def run(self):
            hook.after_val_epoch(fake, {'accuracy/top1': 65.0})

    fake.val_loop = ValLoop()
    hook.before_train(fake)
    hook.after_train(fake)
    assert read(tmp_path)['scores'] == [60.0, 65.0]


def test_without_a_score(tmp_path):
    hook, fake = PeakToFinalHook('bbox_mAP'), runner(tmp_path)
    with pytest.raises(KeyError, match="'bbox_mAP' among"):
        hook.after_val_epoch(fake, {'accuracy/top1': 1.0})
    hook.after_train(fake)
    assert not (tmp_path / 'peak_to_final.json').exists()
