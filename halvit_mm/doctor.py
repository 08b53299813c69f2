"""List what is installed, and what to do about each problem found.

Run ``python -m halvit_mm.doctor``; it exits with 1 if there is a problem. It
also runs where no host is installed, and reports that as a problem.
"""

import os
import platform
import shutil
import subprocess
import sys
from typing import List, NamedTuple

import torch

from .compat import (
    OPS_ENV_VAR,
    HostLine,
    host_lines,
    installed_version,
    missing_host_message,
    ops_backend,
)

_VERSIONS = ('torch', 'torchvision', 'numpy', 'pycocotools', 'safetensors')
_OPENCV = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
_MIN_SHM = 1 << 30  # bytes; data loader workers pass batches through it


class Report(NamedTuple):
    """What the doctor found."""

    facts: List[str]  # 'name: value'
    problems: List[str]  # what is wrong, and what to do


def host_problems(lines: List[HostLine]) -> List[str]:
    """Find problems of the OpenMMLab hosts: one complete line is wanted."""
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
    """Find problems of OpenCV, whose four distributions share one folder."""
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
    """Find problems of torch and torchvision, whose operators may not load."""
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


def _device_facts() -> List[str]:
    names = [
        f'{torch.cuda.get_device_name(i)} '
        f'({torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB)'
        for i in range(torch.cuda.device_count())
    ]
    gpus = ', '.join(names) or 'none, training runs on the CPU'
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return [
        f'GPUs: {gpus}',
        f'CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads',
        f'memory: {memory / 2**30:.0f} GiB',
    ]


def _examine_operators(report: Report, has_hosts: bool) -> None:
    """Add where mmcv's operators come from."""
    backend = 'none'
    try:
        backend = ops_backend()
        if has_hosts and backend == 'none':
            report.problems.append(
                f"mmcv's operators cannot be imported: unset {OPS_ENV_VAR}, "
                'or build mmcv'
            )
    except ValueError as error:  # the variable has an unknown value
        report.problems.append(str(error))
    report.facts.append(f"mmcv's operators: {backend}")


def _examine_tied_operators(report: Report) -> None:
    """Add which operators tied layers use."""
    found = 'none'
    try:
        from .ops import backend, backend_reason

        found = f'{backend()} ({backend_reason()})'
    except (RuntimeError, ValueError) as error:  # wrong HALVIT_MM_OPS
        report.problems.append(str(error))
    report.facts.append(f'tied projections: {found}')


def _examine_shared_memory(report: Report) -> None:
    if not os.path.isdir('/dev/shm'):
        return
    free = shutil.disk_usage('/dev/shm').free
    report.facts.append(f'/dev/shm: {free / 2**30:.1f} GiB free')
    if free < _MIN_SHM:
        report.problems.append(
            f'/dev/shm has only {free / 2**20:.0f} MiB free, data loader '
            'workers may crash: start the container with --shm-size=8g, or '
            'set train_dataloader.num_workers=0 '
            'train_dataloader.persistent_workers=False'
        )


def diagnose() -> Report:
    """Examine what is installed, and what is wrong with it."""
    lines = host_lines()
    facts = [f'Python: {platform.python_version()}']
    for line in lines:
        versions = ', '.join(f'{k} {v}' for k, v in line.versions.items())
        facts.append(f'host line: {line.name} ({versions})')
    facts += [
        f'{name}: {installed_version(name) or "-"}' for name in _VERSIONS
    ]
    opencv = [name for name in _OPENCV if installed_version(name)]
    facts.append(f'OpenCV: {", ".join(opencv) or "-"}')
    works = _torchvision_works()
    torch_version = installed_version('torch') or '-'
    problems = host_problems(lines) + torch_problems(torch_version, works)
    report = Report(facts, problems + opencv_problems(opencv))
    if works:
        _examine_operators(report, bool(lines))
    _examine_tied_operators(report)
    report.facts.extend(_device_facts())
    _examine_shared_memory(report)
    return report


def main() -> int:
    """Print the report; returns 1 if there is a problem, else 0."""
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
