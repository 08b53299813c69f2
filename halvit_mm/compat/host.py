"""Which of the two OpenMMLab lines is installed.

Both lines write the same package folders (``mmengine``, ``mmcv``, ``mmdet``,
``mmpretrain``), so only the distributions' names tell them apart.
"""

from importlib import metadata
from typing import Dict, List, NamedTuple

__all__ = ['HostLine', 'host_lines', 'missing_host_message']


class HostLine(NamedTuple):
    """One line of hosts and what is installed of it.

    Attributes:
        name: ``'onedl'`` (maintained) or ``'openmmlab'`` (original); also
            the name of our extra that installs it.
        versions: Distribution name -> version, installed ones only.
        missing: Distribution names that are not installed.
    """

    name: str
    versions: Dict[str, str]
    missing: List[str]


# One tuple per package folder: any of its distributions will do.
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
    """Returns: The lines of which at least one distribution is installed."""
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
    """Returns: The error text for an environment without any host."""
    return (
        'no OpenMMLab host is installed: `pip install "halvit-mm[onedl]"` '
        'installs the maintained line, `pip install "halvit-mm[openmmlab]"` '
        'the original one (one of them, never both)'
    )
