"""Best score, final score, and their difference."""

import json
import logging
import math
from types import SimpleNamespace

import pytest
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from halvit_mm.engine import PeakToFinalHook, peak_to_final

NAN = math.nan


def runner(tmp_path, epoch=0, loop=EpochBasedTrainLoop):
    return SimpleNamespace(
        epoch=epoch,
        logger=logging.getLogger('peak'),
        work_dir=str(tmp_path),
        train_loop=loop.__new__(loop),  # nobody asks for more than its class
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


def test_iterations_have_no_epochs(tmp_path):
    fake = runner(tmp_path, loop=IterBasedTrainLoop)
    with pytest.raises(ValueError, match='under IterBasedTrainLoop the epoch'):
        PeakToFinalHook().before_train(fake)


@pytest.mark.parametrize(
    ('scores', 'best', 'epoch'),
    [
        ((40.0, NAN, 60.0, 50.0), 60.0, 3),
        ((NAN, 40.0, 30.0), 40.0, 2),
        ((40.0, 60.0, NAN), 60.0, 2),
        ((NAN, NAN), NAN, 1),
    ],
)
def test_what_is_no_number_is_not_the_best(tmp_path, scores, best, epoch):
    hook, fake = PeakToFinalHook(), runner(tmp_path)
    hook.before_train(fake)
    validate(hook, fake, *scores)
    found = read(tmp_path)
    assert found['best_epoch'] == epoch
    assert found['best'] == pytest.approx(best, nan_ok=True)
    assert found['final'] == pytest.approx(scores[-1], nan_ok=True)
    difference = best - scores[-1]
    assert found['difference'] == pytest.approx(difference, nan_ok=True)
    again = PeakToFinalHook()  # and is remembered
    again.before_train(runner(tmp_path, epoch=len(scores)))
    known = list(again._scores.values())
    assert known == pytest.approx(list(scores), nan_ok=True)


def test_a_rank_without_the_file_is_told(tmp_path, monkeypatch):
    """Two nodes, each with a disk of its own; the first has the file."""
    sent, known = [], []

    def is_main_process():
        return not known

    def broadcast(data):
        if is_main_process():
            sent.extend(data)
        data[:] = sent

    monkeypatch.setattr(peak_to_final, 'is_main_process', is_main_process)
    monkeypatch.setattr(peak_to_final, 'broadcast_object_list', broadcast)
    disks = [tmp_path / 'first', tmp_path / 'second']
    disks[0].mkdir()
    validate(PeakToFinalHook(), runner(disks[0]), 60.0, 50.0)
    for disk in disks:
        hook, fake = PeakToFinalHook(), runner(disk, epoch=2)
        fake.val_loop = SimpleNamespace(run=pytest.fail)
        hook.before_train(fake)
        hook.after_train(fake)  # neither validates
        known.append((hook._scores, hook._last))
    assert known[0] == known[1]
    assert known[1] == (
        {1: 60.0, 2: 50.0},
        {'accuracy/top1': 50.0, 'accuracy/top5': 90.0},
    )
