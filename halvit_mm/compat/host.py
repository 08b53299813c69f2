"""Which of the two OpenMMLab lines is installed.

Both lines write the same package folders (``mmengine``, ``mmcv``, ``mmdet``,
``mmpretrain``), so only the distributions' names tell them apart.
"""

from importlib import metadata
from typing import Dict, List, NamedTuple, Optional


class HostLine(NamedTuple):
    """One line of hosts and what is installed of it."""

    name: str  # 'onedl' (maintained) or 'openmmlab'; also the extra's name
    versions: Dict[str, str]  # of the distributions that are installed
    missing: List[str]  # distributions that are not


# A name for each package folder; `|` parts those of which any one is enough.
_DISTRIBUTIONS = {
    'onedl': 'onedl-mmengine onedl-mmcv onedl-mmdetection onedl-mmpretrain',
    'openmmlab': 'mmengine mmcv-lite|mmcv mmdet mmpretrain',
}


def installed_version(distribution: str) -> Optional[str]:
    """Version of an installed distribution, None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def host_lines() -> List[HostLine]:
    """List the lines of which at least one distribution is installed."""
    lines = []
    for name, text in _DISTRIBUTIONS.items():
        folders = [names.split('|') for names in text.split()]
        found = {d: installed_version(d) for names in folders for d in names}
        versions = {d: version for d, version in found.items() if version}
        missing = [d[0] for d in folders if versions.keys().isdisjoint(d)]
        if versions:
            lines.append(HostLine(name, versions, missing))
    return lines


def missing_host_message() -> str:
    """Write the error text for an environment without any host."""
    return (
        'no OpenMMLab host is installed: `pip install "halvit-mm[onedl]"` '
        'installs the maintained line, `pip install "halvit-mm[openmmlab]"` '
        'the original one (one of them, never both)'
    )


def unsupported_message(operator: str) -> str:
    """Write the error text for an operator that torchvision does not replace.

    It has the command that builds mmcv for the installed line.
    """
    names = [line.name for line in host_lines()]
    # Without isolation the build sees torch and compiles; a wheel in pip's
    # cache may be the pure one.
    mmcv = 'mmcv==2.1.0' if names == ['openmmlab'] else 'onedl-mmcv'
    return (
        f'the operator {operator} needs a compiled mmcv; build it with: '
        'pip install --no-build-isolation --no-cache-dir --force-reinstall '
        f'--no-deps {mmcv} (with FORCE_CUDA=1 for GPUs)'
    )
