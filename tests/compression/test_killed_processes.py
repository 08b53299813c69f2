"""SIGKILL at points of a calibration: what goes on ends in the same file."""

import random
import signal
import time

from ..tools.conftest import imported
from .killed import main

STEPS = 2 * 10 * 5  # groups, epochs, batches


def start(folder, out):
    """A calibration in another process, and the pipe of its steps."""
    here, there = imported.Pipe(duplex=False)
    process = imported.Process(target=main, args=(folder, out, there))
    process.start()
    there.close()
    return process, here


def count_steps(process, steps):
    """Wait for the end of a calibration, and count the steps it says."""
    count = 0
    while process.is_alive() or steps.poll():
        if steps.poll(0.1):
            try:
                steps.recv()
            except EOFError:
                break
            count += 1
    process.join()
    assert process.exitcode == 0
    return count


def test_five_kills(tmp_path):
    whole = start(tmp_path / 'whole', tmp_path / 'whole.safetensors')
    assert count_steps(*whole) == STEPS
    generator = random.Random(0)
    out = tmp_path / 'killed.safetensors'
    done = 0
    for _ in range(5):
        process, said = start(tmp_path / 'killed', out)
        for _ in range(generator.randint(1, 15)):
            passes, step = said.recv()
        time.sleep(generator.random() / 100)  # in a step, or while it saves
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not out.exists()
        reached = passes * STEPS // 2 + step
        assert reached > done - 2  # two steps lie between states
        done = reached
    last = start(tmp_path / 'killed', out)
    assert 0 < count_steps(*last) < STEPS
    assert out.read_bytes() == (tmp_path / 'whole.safetensors').read_bytes()
    assert not list(tmp_path.rglob('*.part'))
