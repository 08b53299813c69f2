"""SIGKILL at points of a calibration: what goes on ends in the same file."""

import random
import signal
import subprocess
import sys
import time

from ..tools.conftest import ROOT

STEPS = 2 * 10 * 5  # groups, epochs, batches


def start(folder, out):
    command = [sys.executable, '-m', 'tests.compression.killed', folder, out]
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_five_kills(tmp_path):
    whole = start(tmp_path / 'whole', tmp_path / 'whole.safetensors')
    assert len(whole.communicate()[0].splitlines()) == STEPS
    generator = random.Random(0)
    out = tmp_path / 'killed.safetensors'
    done = 0
    for _ in range(5):
        process = start(tmp_path / 'killed', out)
        for _ in range(generator.randint(1, 15)):
            passes, step = map(int, process.stdout.readline().split())
        time.sleep(generator.random() / 100)  # in a step, or while it saves
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert not out.exists()
        reached = passes * STEPS // 2 + step
        assert reached > done - 2  # two steps lie between states
        done = reached
    last = start(tmp_path / 'killed', out)
    steps = len(last.communicate()[0].splitlines())
    assert last.returncode == 0 and 0 < steps < STEPS
    assert out.read_bytes() == (tmp_path / 'whole.safetensors').read_bytes()
    assert not list(tmp_path.rglob('*.part'))
