"""``setup.py``: the CUDA build of the operators, and the install without."""

import os
import re
import runpy
import shutil
import sys
import tarfile
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from halvit_mm.ops import build
from halvit_mm.ops.register import SCHEMAS

from ..commands import ROOT, run

CSRC = ROOT / 'halvit_mm' / 'ops' / 'csrc'
PURE = 'halvit_mm: pure Python install; FORCE_CUDA=1 pip install'

#: Entry function -> its instances: widths of a row; activation x dtype.
KERNELS = {
    'add_layer_norm_kernel': 6,
    'add_layer_norm_backward_kernel': 6,
    'activation_kernel': 6,
    'activation_backward_kernel': 6,
    'cast_kernel': 1,
    'reduce_partials_kernel': 1,
}

#: Of these kernels, loads and stores of single values: the factor of a sample,
#: mean and rstd; the sums of a block (of two, for each 256 columns of a row).
SINGLE_VALUES = {
    'add_layer_norm_kernel': (1, 2),
    'add_layer_norm_backward_kernel': (3, 2),
    'activation_kernel': (0, 0),
    'activation_backward_kernel': (0, 1),
    'cast_kernel': (0, 0),
}

needs_setuptools = pytest.mark.skipif(
    int(version('setuptools').split('.')[0]) < 77,
    reason='pyproject.toml needs setuptools>=77 (pip install -U setuptools)',
)
pytestmark = [pytest.mark.slow, needs_setuptools]


def run_setup(*arguments, cwd=ROOT, **environment):
    settings = (f'{name}={value}' for name, value in environment.items())
    command = ('env', '-u', 'FORCE_CUDA', *settings, sys.executable)
    return run(*command, 'setup.py', *arguments, check=False, cwd=cwd)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The library, and what the compiler said."""
    if shutil.which('nvcc') is None:
        pytest.skip('no nvcc on PATH')
    if not cpp_extension.is_ninja_available():
        pytest.skip('no ninja, which shows what the compiler says')
    folder = tmp_path_factory.mktemp('build')
    result = run_setup(
        *('build_ext', '--build-lib', folder / 'lib'),
        *('--build-temp', folder / 'temp'),
        FORCE_CUDA='1',
        TORCH_CUDA_ARCH_LIST='8.0;9.0+PTX',
        NVCC_APPEND_FLAGS='-Xptxas -v',
    )
    assert result.returncode == 0, result.stdout[-4000:]
    (library,) = (folder / 'lib' / 'halvit_mm').glob('_C*.so')
    return library, result.stdout


def test_kernels_keep_to_their_registers(built):
    _, log = built
    entry = re.compile(
        r"Compiling entry function '(\w+)' for '(sm_\d+)'\n"
        r'(?:.*\n)??.*?(\d+) bytes stack frame, (\d+) bytes spill stores'
    )
    found = entry.findall(log)
    for arch in ('sm_80', 'sm_90'):
        names = [name for name, target, *_ in found if target == arch]
        for kernel, count in KERNELS.items():
            # mangled: the length stands before the name
            mangled = f'{len(kernel)}{kernel}'
            instances = [name for name in names if mangled in name]
            assert len(instances) == count, (arch, kernel)
        assert len(names) == sum(KERNELS.values()), arch
    assert {(frame, spills) for *_, frame, spills in found} == {('0', '0')}


def find_cuobjdump():
    """Of the toolkit, or else the one that comes with triton."""
    folders = [os.environ.get('PATH', '')]
    if cpp_extension.CUDA_HOME:
        folders.append(f'{cpp_extension.CUDA_HOME}/bin')
    if triton := find_spec('triton'):
        folder = Path(triton.origin).parent
        folders.append(f'{folder}/backends/nvidia/bin')
    return shutil.which('cuobjdump', path=os.pathsep.join(folders))


def single_values(name):
    """Kernel of a mangled name, and its loads and stores of single values."""
    for kernel, (loads, stores) in SINGLE_VALUES.items():
        if f'{len(kernel)}{kernel}' not in name:
            continue
        if kernel == 'add_layer_norm_backward_kernel':
            lanes, chunks = re.search(r'ILi(\d+)ELi(\d+)E', name).groups()
            # where a block has one row, its threads store eight sums each
            stores *= int(chunks) if lanes == '32' else 0
        return kernel, {'LD': loads, 'ST': stores}
    return 'reduce_partials_kernel', {}


@pytest.mark.parametrize('arch', ['sm_80', 'sm_90'])
def test_accesses_are_of_16_bytes(built, arch):
    """What is no single value is loaded and stored 128 bits at a time."""
    if (cuobjdump := find_cuobjdump()) is None:
        pytest.skip('no cuobjdump on PATH, in CUDA_HOME or in triton')
    code = run(cuobjdump, '-sass', '-arch', arch, built[0]).stdout
    seen = []
    for body in code.split('Function : ')[1:]:
        name = body.split()[0]
        kernel, allowed = single_values(name)
        seen.append(kernel)
        for access, limit in allowed.items():
            widths = re.findall(rf'\b{access}G?(\.\S+)? ', body)
            narrow = [width for width in widths if '.128' not in width]
            assert len(narrow) <= limit, (name, access, narrow)
            assert len(narrow) < len(widths), (name, access)
    assert Counter(seen) == KERNELS


def test_compilers_do_not_warn(built):
    log = built[1]
    csrc = re.escape(str(CSRC))
    assert not re.findall(rf'{csrc}\S*?[:(]\d+.*warning.*', log)


def test_library_says_what_it_is(built):
    import torch

    assert build.read_build(built[0]) == {
        'schema': build.schema_digest(),
        'source': build.source_digest(),
        'torch': '.'.join(torch.__version__.split('.')[:2]),
        'cuda': torch.version.cuda,
        'archs': '8.0;9.0+PTX',
    }


def test_library_registers_every_operator(built):
    """It loads without a GPU, and fits the schemas."""
    code = (
        'import sys, torch, halvit_mm.ops\n'
        'torch.ops.load_library(sys.argv[1])\n'
        'has = torch._C._dispatch_has_kernel_for_dispatch_key\n'
        "print(all(has('halvit::' + n, 'CUDA') for n in sys.argv[2:]))"
    )
    result = run(sys.executable, '-c', code, built[0], *SCHEMAS)
    assert result.stdout.split()[-1:] == ['True'], result.stdout


def test_schemas_are_read_without_importing(monkeypatch):
    """The library's digest and the loader's are of the same text."""
    monkeypatch.setattr(sys, 'argv', ['setup.py', '--version'])
    monkeypatch.chdir(ROOT)
    assert runpy.run_path('setup.py')['schemas']() == SCHEMAS


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    """What an install reads, elsewhere."""
    folder = tmp_path_factory.mktemp('copy')
    skip = shutil.ignore_patterns('__pycache__', '*.so')
    shutil.copytree(ROOT / 'halvit_mm', folder / 'halvit_mm', ignore=skip)
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'MANIFEST.in'):
        shutil.copy(ROOT / name, folder)
    return folder


def test_plain_install_builds_nothing(copy):
    result = run_setup('build', 'sdist', cwd=copy)
    assert result.returncode == 0, result.stdout
    assert result.stdout.count(PURE) == 1
    assert not list(copy.rglob('*.so'))
    (package,) = (copy / 'build').glob('lib*')
    assert not (package / 'halvit_mm' / 'ops' / 'csrc').exists()
    (archive,) = (copy / 'dist').glob('*.tar.gz')
    packed = {Path(name).name for name in tarfile.open(archive).getnames()}
    assert {path.name for path in CSRC.rglob('*.*')} <= packed


@pytest.mark.parametrize('value', ['', '0'])
def test_other_values_do_not_force(copy, value):
    result = run_setup('--version', cwd=copy, FORCE_CUDA=value)
    assert result.returncode == 0 and PURE in result.stdout


def test_build_without_torch_says_why(copy):
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['setup.py']\n"
        "__file__ = 'setup.py'; exec(open('setup.py').read())"
    )
    command = (sys.executable, '-c', code)
    result = run(*command, check=False, cwd=copy, FORCE_CUDA='1')
    assert result.returncode != 0
    assert 'pass --no-build-isolation to pip' in result.stdout
