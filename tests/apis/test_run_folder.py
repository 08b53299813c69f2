"""Two trainings never write to one folder."""

import multiprocessing

import pytest

from halvit_mm.apis.run_folder import lock_folder


def hold(folder, pipe):
    lock_folder(folder)
    pipe.send('held')
    pipe.recv()


def test_a_second_run_is_refused_and_the_first_named(tmp_path):
    folder = tmp_path / 'run'
    fork = multiprocessing.get_context('fork')
    here, there = fork.Pipe()
    process = fork.Process(target=hold, args=(folder, there))
    process.start()
    assert here.recv() == 'held'
    message = rf'already writes to {folder}: process {process.pid} on '
    with pytest.raises(ValueError, match=message):
        lock_folder(folder)
    here.send('end')
    process.join()
    lock_folder(folder)  # whose owner is gone
    lock_folder(folder)  # one process trains several times


def test_other_ranks_do_not_ask(tmp_path, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    lock_folder(tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='file/run cannot be written to'):
        lock_folder(tmp_path / 'file/run')
