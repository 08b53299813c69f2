"""On what a benchmark ran."""

import platform
import re
import subprocess
from pathlib import Path
from typing import Dict, Optional, Union

import torch

from ... import ops
from ...version import __version__

__all__ = ['environment']


def environment(device: str) -> Dict[str, Union[str, int, None]]:
    """Versions and settings that decide times.

    Args:
        device: That is timed.

    Returns:
        Name -> value; None for what is not there.
    """
    is_cuda = torch.device(device).type == 'cuda'
    return dict(
        halvit_mm=__version__,
        commit=_commit(),
        device=torch.cuda.get_device_name(device) if is_cuda else _cpu(),
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda if is_cuda else None,
        cudnn=torch.backends.cudnn.version() if is_cuda else None,
        threads=torch.get_num_threads(),
        float32_matmul_precision=torch.get_float32_matmul_precision(),
        operators=ops.backend() if is_cuda else 'fallback',
        operators_reason=ops.backend_reason() if is_cuda else 'on a CPU',
    )


def _cpu() -> str:
    info = Path('/proc/cpuinfo')
    text = info.read_text() if info.is_file() else ''
    found = re.search(r'model name\s*: (.*)', text)
    return found[1] if found else platform.processor() or platform.machine()


def _commit() -> Optional[str]:
    """Commit of the repository that this file is in, if it is in one."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40']
    try:
        result = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:  # no git
        return None
    return result.stdout.strip() or None
