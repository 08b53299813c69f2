"""Interrupted in any moment, a run has a whole checkpoint."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint

from halvit_mm.checkpoint import check_whole, files, find_checkpoint
from halvit_mm.engine import check_space

from .tiny_run import LENGTH, tiny_runner

ROOT = Path(__file__).parents[2]


def names(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth*'))


class Spoil(Hook):
    """Makes a weight NaN in an epoch and mends it in a later one."""

    def __init__(self, spoilt, mended=99):
        self.spoilt, self.mended = spoilt, mended

    def before_train_epoch(self, runner):
        weight = runner.model.layer.weight.data
        if runner.epoch == self.spoilt:
            weight[0, 0] = torch.nan
        if runner.epoch == self.mended:
            runner.optim_wrapper.optimizer.state.clear()
            for parameter in runner.model.parameters():
                parameter.data.zero_()


def test_what_is_kept(tmp_path):
    tiny_runner(tmp_path, dict(interval=1, max_keep_ckpts=2), 4).train()
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_4.pth'


def test_the_old_one_is_there_until_the_new_one_is_whole(
    tmp_path, monkeypatch
):
    seen, replace = [], os.replace

    def spy(source, target):
        if str(target).endswith('.pth'):
            seen.append(names(tmp_path))
        replace(source, target)

    monkeypatch.setattr(files.os, 'replace', spy)
    tiny_runner(tmp_path, dict(interval=1, max_keep_ckpts=1), 3).train()
    assert seen == [
        ['epoch_1.pth.part'],
        ['epoch_1.pth', 'epoch_2.pth.part'],
        ['epoch_2.pth', 'epoch_3.pth.part'],
    ]


def test_the_last_finite_one_is_kept(tmp_path):
    hook = dict(interval=1, max_keep_ckpts=1)
    runner = tiny_runner(tmp_path, hook, 4, custom_hooks=[Spoil(1)])
    runner.train()
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_4.pth']
    assert find_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')


def test_it_goes_when_a_finite_one_follows(tmp_path):
    hook = dict(interval=1, max_keep_ckpts=1)
    spoil = Spoil(1, mended=3)
    tiny_runner(tmp_path, hook, 4, custom_hooks=[spoil]).train()
    assert names(tmp_path) == ['epoch_4.pth']


@pytest.mark.parametrize('moment', ['write', 'verify', 'replace'])
def test_a_full_disk_leaves_the_previous_one(tmp_path, monkeypatch, moment):
    runner = tiny_runner(tmp_path, dict(interval=1, max_keep_ckpts=1), 3)
    full = OSError(28, 'No space left on device')

    def fail_at_second(function, name):
        def wrapped(*args, **kwargs):
            if any('epoch_2' in str(x) for x in args):
                raise full
            return function(*args, **kwargs)

        return wrapped

    if moment == 'write':
        save = runner.save_checkpoint
        runner.save_checkpoint = fail_at_second(save, moment)
    elif moment == 'replace':
        fail = fail_at_second(os.replace, moment)
        monkeypatch.setattr(files.os, 'replace', fail)
    else:
        fail = fail_at_second(zipfile.ZipFile, moment)
        monkeypatch.setattr(zipfile, 'ZipFile', fail)
    with pytest.raises(OSError, match='epoch_2.pth cannot be written'):
        runner.train()
    monkeypatch.undo()
    assert names(tmp_path) == ['epoch_1.pth']
    check_whole(tmp_path / 'epoch_1.pth')
    assert find_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_1.pth'


def test_damaged_files_are_passed_over(tmp_path):
    tiny_runner(tmp_path, dict(interval=1), 4).train()
    cut = tmp_path / 'epoch_4.pth'
    cut.write_bytes(cut.read_bytes()[:-100])
    flipped = tmp_path / 'epoch_3.pth'
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    times = flipped.stat()
    os.utime(cut, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert find_checkpoint(tmp_path) == str(tmp_path / 'epoch_2.pth')
    weights = tmp_path / 'epoch_9.pth'
    for content in (dict(state_dict={}), [1]):
        torch.save(content, weights)
        assert find_checkpoint(tmp_path) == str(tmp_path / 'epoch_2.pth')


def test_none_to_resume(tmp_path):
    assert find_checkpoint(tmp_path) is None
    (tmp_path / 'epoch_1.pth').write_bytes(b'')
    assert find_checkpoint(tmp_path) is None


def test_a_moved_run_is_resumed(tmp_path, monkeypatch):
    old, new = tmp_path / 'old', tmp_path / 'new'
    tiny_runner(old, dict(interval=1), 2).train()
    shutil.move(old, new)
    assert find_checkpoint(new) == str(new / 'epoch_2.pth')
    monkeypatch.chdir(new)  # the host takes the name as it is
    assert Path(find_latest_checkpoint('.')).is_file()


def test_scores_that_mean_nothing_are_never_the_best(tmp_path):
    hook = dict(interval=-1, save_best='score', rule='greater')
    runner = tiny_runner(tmp_path, hook, 1)
    runner.train()
    (saver,) = (h for h in runner.hooks if hasattr(h, 'save_best'))
    for score in (float('nan'), -1, 0.5, float('nan'), -1, 0.4):
        runner.train_loop._epoch += 1
        saver.after_val_epoch(runner, dict(score=score))
        found = [n for n in names(tmp_path) if n.startswith('best')]
        assert found == (
            ['best_score_epoch_4.pth'] if runner.epoch > 3 else []
        )


def test_the_best_of_two_scores_saved_again_under_its_name(tmp_path):
    """A resumed run may evaluate the same epoch again."""
    hook = dict(interval=1, save_best=['a', 'b'], rule='greater')
    runner = tiny_runner(tmp_path, hook, 1)
    runner.train()
    (saver,) = (h for h in runner.hooks if hasattr(h, 'save_best'))
    for score in (0.1, 0.2):
        saver.after_val_epoch(runner, dict(a=score, b=0.5))
        best = [n for n in names(tmp_path) if n.startswith('best')]
        assert best == ['best_a_epoch_1.pth', 'best_b_epoch_1.pth']


def test_half_files_of_before_are_removed(tmp_path):
    (tmp_path / 'epoch_7.pth.part').write_bytes(b'half')
    tiny_runner(tmp_path, dict(interval=1), 1).train()
    assert names(tmp_path) == ['epoch_1.pth']


def test_space_for_two_checkpoints(tmp_path, monkeypatch):
    model = torch.nn.Linear(1000, 250)  # 1.004 MB, and twice that for AdamW
    usage = shutil._ntuple_diskusage(0, 0, 6_000_000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    message = f'{tmp_path} has 6 MB left, two checkpoints take 6 MB: make'
    with pytest.raises(OSError, match=message):
        check_space(tmp_path, model)
    usage = shutil._ntuple_diskusage(0, 0, 7_000_000)
    check_space(tmp_path, model)


KILLED = """
import os, signal, sys
import halvit_mm
from halvit_mm.checkpoint import files
from tests.engine.tiny_run import tiny_runner

moment = int(sys.argv[2])
calls = 0
for name in ('open', 'fsync', 'replace'):
    def wrapped(*args, inner=getattr(os, name), **kwargs):
        global calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **kwargs)
    setattr(files.os, name, wrapped)
tiny_runner(sys.argv[1], dict(interval=1, max_keep_ckpts=1), 3).train()
"""


@pytest.mark.parametrize('moment', [6, 7, 8, 9, 10])
def test_killed_while_it_writes(tmp_path, moment):
    """Between all steps of the second checkpoint."""
    result = subprocess.run(
        [sys.executable, '-c', KILLED, str(tmp_path), str(moment)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr[-500:]
    found = find_checkpoint(tmp_path)
    assert found is not None
    runner = tiny_runner(
        tmp_path, dict(interval=1), 3, resume=True, load_from=found
    )
    runner.train()
    assert runner.iter == 3 * LENGTH
    assert names(tmp_path)[-1] == 'epoch_3.pth'
