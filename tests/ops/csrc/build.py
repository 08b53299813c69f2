"""Compiles the operators' sources for the CPU, as one shared library."""

from pathlib import Path

import torch
from torch.utils import cpp_extension

from tests.commands import ROOT, run

HERE = Path(__file__).parent
CSRC = ROOT / 'halvit_mm' / 'ops' / 'csrc'


def build_host_library(target: Path) -> Path:
    """Compile the sources and the emulation of CUDA.

    Args:
        target: The library to write.

    Returns:
        The same.
    """
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
        *('-lc10', '-ltorch_cpu', '-ltorch'),
    )
    return target
