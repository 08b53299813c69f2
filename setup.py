"""Build script; the metadata stands in ``pyproject.toml``.

``FORCE_CUDA=1 pip install --no-build-isolation .`` builds the CUDA operators
(``halvit_mm/_C*.so``), for the architectures in ``TORCH_CUDA_ARCH_LIST``.
Anything else installs Python only.
"""

import ast
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
OPS = Path('halvit_mm', 'ops')
ARCHS = '8.0;9.0+PTX'
PURE = (
    'halvit_mm: pure Python install; FORCE_CUDA=1 pip install '
    '--no-build-isolation . builds the CUDA operators'
)


def schemas() -> dict:
    """The operators' schemas, read from their files without importing them."""
    found = {}
    for path in sorted((ROOT / OPS).glob('*.py')):
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.Assign)
                and node.targets[0].id == 'SCHEMAS'
            ):
                found.update(ast.literal_eval(node.value))
    return found


def build_tag(torch, archs: str) -> str:
    """What the library was built from; the loader compares it."""
    schema = hashlib.sha256(json.dumps(schemas(), sort_keys=True).encode())
    source = hashlib.sha256()
    for path in sorted((ROOT / OPS / 'csrc').rglob('*.[ch]*')):
        source.update(path.read_bytes())
    torch_version = '.'.join(torch.__version__.split('.')[:2])
    return (
        f'halvit_mm-build{{schema={schema.hexdigest()[:12]};'
        f'source={source.hexdigest()[:12]};'
        f'torch={torch_version};cuda={torch.version.cuda};archs={archs}}}'
    )


def find_toolkit() -> None:
    """Points CUDA_HOME to the toolkit, where nvcc is a script elsewhere.

    PyTorch takes the folder above that of nvcc, whatever it holds.
    """
    if 'CUDA_HOME' in os.environ or 'CUDA_PATH' in os.environ:
        return
    nvcc = Path(shutil.which('nvcc') or '/usr/local/cuda/bin/nvcc')
    for home in (nvcc.resolve().parents[1], Path('/usr/local/cuda')):
        if (home / 'include' / 'cuda_runtime.h').is_file():
            os.environ['CUDA_HOME'] = str(home)
            return


def cuda_build() -> dict:
    """Arguments of ``setup()`` that build the operators."""
    find_toolkit()  # before PyTorch looks for it
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        raise SystemExit(
            'halvit_mm: FORCE_CUDA=1 needs PyTorch while it builds; install '
            f'it first, then pass --no-build-isolation to pip ({error})'
        ) from error
    if torch.version.cuda is None or cpp_extension.CUDA_HOME is None:
        raise SystemExit(
            'halvit_mm: FORCE_CUDA=1 needs PyTorch with CUDA (found '
            f'{torch.__version__}) and the CUDA toolkit (CUDA_HOME is '
            f'{cpp_extension.CUDA_HOME})'
        )
    archs = os.environ.setdefault('TORCH_CUDA_ARCH_LIST', ARCHS)
    csrc = OPS / 'csrc'
    sources = sorted((ROOT / csrc).rglob('*.c*'))
    sources = [path for path in sources if path.suffix in ('.cpp', '.cu')]
    tag = f'-DHALVIT_BUILD_TAG="{build_tag(torch, archs)}"'
    extension = cpp_extension.CUDAExtension(
        'halvit_mm._C',
        [str(path.relative_to(ROOT)) for path in sources],
        extra_compile_args={
            'cxx': ['-O2', '-g0', '-Wall', tag],
            'nvcc': ['-O3', '-Xptxas', '-v'],
        },
    )
    build_ext = cpp_extension.BuildExtension
    return {'ext_modules': [extension], 'cmdclass': {'build_ext': build_ext}}


if os.environ.get('FORCE_CUDA') == '1':
    options = cuda_build()
else:
    options = {}
    print(PURE, file=sys.stderr)

# The sources are in the source archive (MANIFEST.in), not in a wheel.
SOURCES = ['*.h', '*.cuh', '*.cpp', '*.cu', '.clang-format']
setup(exclude_package_data={'': SOURCES}, **options)
