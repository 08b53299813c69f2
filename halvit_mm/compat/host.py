"""Which of the two OpenMMLab lines is installed.

Both lines write the same package folders (``mmengine``, ``mmcv``, ``mmdet``,
``mmpretrain``), so only the distributions' names tell them apart.
"""

from importlib import metadata
from typing import Dict, List, NamedTuple

__all__ = [
    'HostLine',
    'host_lines',
    'missing_host_message',
    'unsupported_message',
]


class HostLine(NamedTuple):
    """One line of hosts and what is installed of it.

    Attributes:
        name: ``'onedl'`` (maintained) or ``'openmmlab'`` (original); also
            the name of our extra that installs it.
        versions: Distribution name -> version, of what is installed.
        missing: Distribution names that are not installed.
    """

    name: str
    versions: Dict[str, str]
    missing: List[str]


# One tuple per package folder: any one of its distributions is enough.
_DISTRIBUTIONS = {
    'onedl': (
        ('onedl-mmengine',),
        ('onedl-mmcv',),
        ('onedl-mmdetection',),
        ('onedl-mmpretrain',),
    ),
    'openmmlab': (
        ('mmengine',),
        ('mmcv-lite', 'mmcv'),
        ('mmdet',),
        ('mmpretrain',),
    ),
}


def _version(distribution: str):
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def host_lines() -> List[HostLine]:
    """List the lines of which at least one distribution is installed."""
    lines = []
    for name, packages in _DISTRIBUTIONS.items():
        versions, missing = {}, []
        for alternatives in packages:
            found = {d: _version(d) for d in alternatives if _version(d)}
            versions.update(found)
            if not found:
                missing.append(alternatives[0])
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

    Args:
        operator: The operator's name and the arguments it was called with.

    Returns:
        A text with the command that builds mmcv for the installed line.
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
