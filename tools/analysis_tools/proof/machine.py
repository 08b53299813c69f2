"""Steps about the machine: versions, the build, the tests, memcheck."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from typing import Dict, List, Tuple

import torch

from . import ROOT
from .runner import CannotRunError, Setup

#: Packages that a step needs beside PyTorch, or pytest.
HOSTS = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain')
_TESTS = ('-m', 'pytest', '-q', '--confcutdir=tests/ops', '-p')
_TESTS += ('no:cacheprovider',)  # nothing is left in the working tree
_SMALL = 'small or views or nothing'  # tests that memcheck ends in time


def need_gpu(setup: Setup) -> None:
    """Raise an error without a GPU, but in a dry run."""
    if not setup.dry_run and not torch.cuda.is_available():
        raise CannotRunError('PyTorch sees no usable GPU')


def need_library(setup: Setup) -> None:
    """Raise an error where the library is not used, but in a dry run."""
    if setup.dry_run:
        return
    need_gpu(setup)
    from halvit_mm import ops

    if ops.backend() != 'cuda':
        raise CannotRunError(
            f'the library is not used: {ops.backend_reason()}'
        )


def need_packages(*names: str) -> None:
    """Raise an error that names the packages that are not installed."""
    if missing := [name for name in names if find_spec(name) is None]:
        raise CannotRunError(f'not installed: {", ".join(missing)}')


def last_line(*command: str) -> str:
    """Return the last line that a command prints; empty without it."""
    if shutil.which(command[0]) is None:
        return ''
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return result.splitlines()[-1] if result else ''


def call(*command: str, **environment: str) -> int:
    """Run a command in the repository; what it prints goes to the log."""
    sys.stdout.flush()
    path = os.pathsep.join((str(ROOT), os.environ.get('PYTHONPATH', '')))
    environment = {**os.environ, 'PYTHONPATH': path, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def _digest() -> str:
    """Return a digest of the operators' sources, for a tree without git."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / 'halvit_mm' / 'ops').rglob('*.*')):
        if path.suffix in ('.py', '.cpp', '.h', '.cu', '.cuh'):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def versions(setup: Setup) -> Dict:
    """Say which GPU, driver, toolkit, PyTorch and sources these are."""
    query = ('nvidia-smi', '--query-gpu=driver_version', '--format=csv')
    data = dict(
        torch=torch.__version__,
        cuda=torch.version.cuda or '',
        python=platform.python_version(),
        driver=last_line(*query),
        nvcc=last_line('nvcc', '--version'),
        sanitizer=last_line('compute-sanitizer', '--version'),
        commit=last_line(
            'git', 'describe', '--always', '--dirty', '--abbrev=40'
        ),
        operators=_digest(),
        hosts=[name for name in HOSTS if find_spec(name)],
    )
    if setup.dry_run:
        return dict(data, device='none: a dry run on the CPU')
    setup.save(data)
    if not torch.cuda.is_available():
        raise RuntimeError('PyTorch sees no usable GPU; try --dry-run')
    major, minor = torch.cuda.get_device_capability()
    device = torch.cuda.get_device_name()
    return dict(data, device=device, capability=f'{major}.{minor}')


def build(setup: Setup) -> Dict:
    """Build the library in place, for this GPU's architecture alone."""
    need_gpu(setup)
    if shutil.which('nvcc') is None and 'CUDA_HOME' not in os.environ:
        raise CannotRunError('no nvcc on PATH and no CUDA_HOME')
    major, minor = torch.cuda.get_device_capability()
    arch = f'{major}.{minor}'
    command = (sys.executable, 'setup.py', 'build_ext', '--inplace')
    started = time.perf_counter()
    status = call(*command, FORCE_CUDA='1', TORCH_CUDA_ARCH_LIST=arch)
    data = dict(arch=arch, seconds=time.perf_counter() - started)
    setup.save(data)
    if status:
        raise RuntimeError(f'{" ".join(command[1:])} ended with {status}')
    from halvit_mm import ops

    data.update(backend=ops.backend(), reason=ops.backend_reason())
    setup.save(data)
    if data['backend'] != 'cuda':
        raise RuntimeError(f'built, but not used: {data["reason"]}')
    return data


def read_junit(path) -> Tuple[Dict[str, int], List[str]]:
    """Read the counts of a JUnit file and the names of what failed."""
    root = ET.parse(path).getroot()
    suite = root if root.tag == 'testsuite' else root.find('testsuite')
    keys = ('tests', 'failures', 'errors', 'skipped')
    failed = [
        f'{case.get("classname")}::{case.get("name")}'
        for case in suite.iter('testcase')
        if case.find('failure') is not None or case.find('error') is not None
    ]
    return {key: int(suite.get(key)) for key in keys}, failed


def tests(setup: Setup) -> Dict:
    """Run the tests of the operators that need a GPU."""
    need_packages('pytest')
    command = [sys.executable, *_TESTS, 'tests/ops', '-m', 'cuda']
    if setup.dry_run:
        status = call(*command, '--collect-only')
        data = dict(exit_status=status)
    else:
        need_library(setup)
        path = setup.folder / 'junit.xml'
        status = call(*command, f'--junitxml={path}', HALVIT_MM_OPS='cuda')
        counts, failed = read_junit(path) if path.exists() else ({}, [])
        data = dict(exit_status=status, **counts, failed=failed)
    setup.save(data)
    if status:
        raise RuntimeError(f'pytest ended with exit status {status}')
    return data


def memcheck(setup: Setup) -> Dict:
    """Run the tests of small shapes under compute-sanitizer."""
    need_gpu(setup)
    if shutil.which('compute-sanitizer') is None:
        raise CannotRunError('compute-sanitizer is not installed')
    need_packages('pytest')
    need_library(setup)
    status = call(
        *('compute-sanitizer', '--tool', 'memcheck', '--error-exitcode', '1'),
        *(sys.executable, *_TESTS, 'tests/ops', '-m', 'cuda', '-k', _SMALL),
        HALVIT_MM_OPS='cuda',
        PYTORCH_NO_CUDA_MEMORY_CACHING='1',
    )
    setup.save(dict(exit_status=status))
    if status:
        raise RuntimeError(f'it ended with exit status {status}')
    return dict(exit_status=status)
