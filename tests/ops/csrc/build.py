"""Compiles the operators' sources for the CPU, as one shared library."""

from pathlib import Path
from typing import Tuple

import torch
from torch.utils import cpp_extension

from tests.commands import ROOT, run

HERE = Path(__file__).parent
CSRC = ROOT / 'halvit_mm' / 'ops' / 'csrc'


#: An access that is not aligned ends the process.
CHECKED = ('-O1', '-fsanitize=alignment', '-fsanitize-undefined-trap-on-error')
#: Kernels and products do nothing; for the rest, as setup.py compiles it.
IDLE = ('-O2', '-DHALVIT_HOST_IDLE')


def build_host_library(target: Path, flags: Tuple[str, ...] = CHECKED) -> Path:
    """Compile the sources and the emulation of CUDA.

    Args:
        target: The library to write.
        flags: For the compiler.

    Returns:
        The same.
    """
    folders = [str(CSRC), str(HERE), *cpp_extension.include_paths()]
    abi = int(torch.compiled_with_cxx11_abi())
    run(
        *('g++', '-std=c++17', *flags, '-fPIC', '-shared', '-Wall', '-Werror'),
        *('-Wno-unknown-pragmas', f'-D_GLIBCXX_USE_CXX11_ABI={abi}'),
        '-DHALVIT_HOST_EMULATION',
        *(f'-isystem{folder}' for folder in folders[2:]),
        *(f'-I{folder}' for folder in folders[:2]),
        HERE / 'host_library.cpp',
        *('-o', target),
        *(f'-L{folder}' for folder in cpp_extension.library_paths()),
        *('-lc10', '-ltorch_cpu', '-ltorch'),
    )
    return target
