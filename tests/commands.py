"""Commands that tests run; this file needs nothing but Python."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command, check=True, cwd=ROOT, **environment):
    """Run a command; its output is shown where it fails."""
    environment = {'OMP_NUM_THREADS': '1', **environment}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=dict(os.environ, PYTHON=sys.executable, **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check:
        assert result.returncode == 0, result.stdout[-4000:]
    return result
