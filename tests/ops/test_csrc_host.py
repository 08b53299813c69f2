"""The C++ and CUDA sources, compiled for the CPU and compared there.

The kernels run under a small emulation of CUDA's threads, cublasLt's products
in a loop that takes the same description; all between is what a GPU runs.
"""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from ..tools.conftest import ROOT, run

HERE = Path(__file__).parent / 'csrc'
CSRC = ROOT / 'halvit_mm' / 'ops' / 'csrc'

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
    target = tmp_path_factory.mktemp('host') / 'libhalvit_host.so'
    folders = [str(CSRC), str(HERE), *cpp_extension.include_paths()]
    abi = int(torch.compiled_with_cxx11_abi())
    run(
        *('g++', '-std=c++17', '-O1', '-fPIC', '-shared', '-Wall', '-Werror'),
        *('-Wno-unknown-pragmas', f'-D_GLIBCXX_USE_CXX11_ABI={abi}'),
        # an access that is not aligned ends the process
        *('-fsanitize=alignment', '-fsanitize-undefined-trap-on-error'),
        '-DHALVIT_HOST_EMULATION',
        *(f'-isystem{folder}' for folder in folders[2:]),
        *(f'-I{folder}' for folder in folders[:2]),
        HERE / 'host_library.cpp',
        *('-o', target),
        *(f'-L{folder}' for folder in cpp_extension.library_paths()),
        *('-lc10', '-ltorch_cpu'),
    )
    return target


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
    assert missing == {'lt_library.cpp', 'lt_matmul.cpp', 'runtime.cpp'}
