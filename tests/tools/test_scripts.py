"""Every script starts, wherever it is called from."""

import sys

from ..commands import ROOT, run

SCRIPTS = sorted(
    str(path)
    for folder in ('tools', 'tools/*_tools', 'tools/*_converters')
    for path in ROOT.glob(f'{folder}/*.py')
    if path.name != 'dist_launch.py'  # whose options are torchrun's
)
# As `python SCRIPT --help` does it, with its folder first in the path, but
# the imports are paid for once.
CODE = """
import os, runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, '--help']
    sys.path[0] = os.path.dirname(script)
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as error:
        assert not error.code, script
    else:
        raise AssertionError(f'{script} has no --help')
"""


def test_help_from_another_directory(tmp_path):
    assert len(SCRIPTS) >= 16
    command = (sys.executable, '-c', CODE, *SCRIPTS)
    result = run(*command, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert result.stdout.count('usage: ') == len(SCRIPTS)
