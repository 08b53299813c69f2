"""The C++ and CUDA sources, compiled for the CPU and compared there.

The kernels run under a small emulation of CUDA's threads, products are ATen's;
all between is what a GPU runs.
"""

import shutil
import sys

import pytest

from ..commands import run
from .csrc.build import CSRC, HERE, build_host_library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != 'linux' or shutil.which('g++') is None,
        reason='needs g++ on Linux',
    ),
]


@pytest.fixture(scope='module')
def library(tmp_path_factory):
    """The operators for the CPU, as one shared library."""
    return build_host_library(
        tmp_path_factory.mktemp('host') / 'libhalvit_host.so'
    )


def test_sources_on_the_cpu(library):
    cases = sorted(map(str, HERE.glob('cases_*.py')))
    command = [sys.executable, '-m', 'pytest', '-x', '--durations=0']
    # Only the fixtures beside the cases: the others import the host.
    command += ['-p', 'no:cacheprovider', f'--confcutdir={HERE}', *cases]
    run(*command, HALVIT_HOST_LIBRARY=str(library))


def test_every_source_is_compiled_here():
    """All but those that talk to the GPU itself."""
    unit = (HERE / 'host_library.cpp').read_text()
    names = {
        str(path.relative_to(CSRC))
        for path in CSRC.rglob('*')
        if path.suffix in ('.cpp', '.cu')
    }
    missing = {name for name in names if f'"{name}"' not in unit}
    assert missing == {'runtime.cpp'}
