"""List what is installed, and what to do about each problem found.

Run ``python -m halvit_mm.doctor``; it exits with 1 if there is a problem. It
also runs where no host is installed, and reports that as a problem.
"""

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from typing import List, NamedTuple, Optional, Tuple

import torch

from .compat import (
    OPS_ENV_VAR,
    HostLine,
    host_lines,
    missing_host_message,
    ops_backend,
)

__all__ = ['Report', 'diagnose', 'main']

_VERSIONS = ('torch', 'torchvision', 'numpy', 'pycocotools', 'safetensors')
_OPENCV = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
_MIN_SHM = 1 << 30  # bytes; data loader workers pass batches through it


class Report(NamedTuple):
    """What the doctor found.

    Attributes:
        facts: ``name: value`` lines.
        problems: Sentences that say what is wrong and what to do.
    """

    facts: List[str]
    problems: List[str]


def _version(distribution: str) -> Optional[str]:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def host_problems(lines: List[HostLine]) -> List[str]:
    """Find problems of the OpenMMLab hosts.

    Args:
        lines: Result of :func:`halvit_mm.compat.host_lines`.

    Returns:
        Sentences, none if exactly one complete line is installed.
    """
    if not lines:
        return [missing_host_message()]
    if len(lines) > 1:
        names = [name for line in lines for name in line.versions]
        return [
            'both host lines are installed and overwrite each other: '
            f'`pip uninstall -y {" ".join(names)}`, then '
            '`pip install "halvit-mm[onedl]"` (or [openmmlab])'
        ]
    line = lines[0]
    if line.missing:
        return [
            f'the host line {line.name} lacks {", ".join(line.missing)}: '
            f'`pip install "halvit-mm[{line.name}]"`'
        ]
    return []


def opencv_problems(installed: List[str]) -> List[str]:
    """Find problems of OpenCV, whose four distributions share one folder.

    Args:
        installed: Names of the installed distributions.

    Returns:
        Sentences, none if only the headless one is installed.
    """
    if installed == ['opencv-python-headless']:
        return []
    found = ', '.join(installed) or 'none'
    uninstall = f'`pip uninstall -y {" ".join(installed)}`, then '
    return [
        f'OpenCV: {found} installed, but exactly opencv-python-headless is '
        f'wanted (the others need libGL): {uninstall if installed else ""}'
        '`pip install --no-deps opencv-python-headless`'
    ]


def torch_problems(torch_version: str, ops_work: bool) -> List[str]:
    """Find problems of the pair torch and torchvision.

    Args:
        torch_version: For example ``'2.11.0+cpu'``.
        ops_work: Whether torchvision's operators could be loaded.

    Returns:
        Sentences, none if the operators work.
    """
    if ops_work:
        return []
    return [
        f'torchvision does not belong to torch {torch_version} (its operators '
        'are missing, as with a CPU-only torch and a torchvision of the '
        'registry): `pip install --force-reinstall torch==2.11.0 '
        'torchvision==0.26.0`'
    ]


def _torchvision_works() -> bool:
    # In another process, because a broken pair can end the interpreter.
    code = 'import torch, torchvision; torch.ops.torchvision.nms'
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, check=False
    )
    return run.returncode == 0


def _ops(has_hosts: bool) -> Tuple[str, List[str]]:
    """Tell where mmcv's operators come from, and what is wrong with them."""
    try:
        backend = ops_backend()
    except ValueError as error:  # the variable has an unknown value
        return 'none', [str(error)]
    if has_hosts and backend == 'none':
        return backend, [
            f"mmcv's operators cannot be imported: unset {OPS_ENV_VAR}, or "
            'build mmcv'
        ]
    return backend, []


def _tied_ops() -> Tuple[str, List[str]]:
    """Tell which operators tied layers use, and what is wrong with them."""
    try:
        from .ops import backend, backend_reason

        return f'{backend()} ({backend_reason()})', []
    except (RuntimeError, ValueError) as error:  # wrong HALVIT_MM_OPS
        return 'none', [str(error)]


def _memory_bytes() -> int:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _device_facts() -> List[str]:
    names = [
        f'{torch.cuda.get_device_name(i)} '
        f'({torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB)'
        for i in range(torch.cuda.device_count())
    ]
    gpus = ', '.join(names) or 'none, training runs on the CPU'
    return [
        f'GPUs: {gpus}',
        f'CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads',
        f'memory: {_memory_bytes() / 2**30:.0f} GiB',
    ]


def _shared_memory() -> Tuple[List[str], List[str]]:
    """Tell the free shared memory, and what is wrong if it is little."""
    if not os.path.isdir('/dev/shm'):
        return [], []
    free = shutil.disk_usage('/dev/shm').free
    fact = f'/dev/shm: {free / 2**30:.1f} GiB free'
    if free >= _MIN_SHM:
        return [fact], []
    return [fact], [
        f'/dev/shm has only {free / 2**20:.0f} MiB free, data loader workers '
        'may crash: start the container with --shm-size=8g, or set '
        'train_dataloader.num_workers=0 '
        'train_dataloader.persistent_workers=False'
    ]


def diagnose() -> Report:
    """Examine the environment.

    Returns:
        What is installed, and what is wrong with it.
    """
    lines = host_lines()
    facts = [f'Python: {platform.python_version()}']
    for line in lines:
        versions = ', '.join(f'{k} {v}' for k, v in line.versions.items())
        facts.append(f'host line: {line.name} ({versions})')
    facts += [f'{name}: {_version(name) or "-"}' for name in _VERSIONS]
    opencv = [name for name in _OPENCV if _version(name)]
    facts.append(f'OpenCV: {", ".join(opencv) or "-"}')
    problems = host_problems(lines)
    works = _torchvision_works()
    problems += torch_problems(_version('torch') or '-', works)
    problems += opencv_problems(opencv)
    if works:
        backend, problem = _ops(bool(lines))
        facts.append(f"mmcv's operators: {backend}")
        problems += problem
    backend, problem = _tied_ops()
    facts.append(f'tied projections: {backend}')
    problems += problem
    facts += _device_facts()
    fact, problem = _shared_memory()
    return Report(facts + fact, problems + problem)


def main() -> int:
    """Print the report.

    Returns:
        1 if there is a problem, else 0.
    """
    report = diagnose()
    for fact in report.facts:
        print(fact)
    for problem in report.problems:
        print(f'PROBLEM {problem}')
    if not report.problems:
        print('no problem found')
    return int(bool(report.problems))


if __name__ == '__main__':
    sys.exit(main())
