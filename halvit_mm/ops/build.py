"""The compiled library: what it was built from, and whether it fits."""

import hashlib
import json
import re
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Dict, Optional

import torch

from .register import NAMESPACE, SCHEMAS

_HERE = Path(__file__).parent
_TAG = re.compile(rb'halvit_mm-build\{([^}]*)\}')
_MIN_CAPABILITY = (8, 0)
_loaded = False


def schema_digest() -> str:
    """Return the digest of all schemas; a library's must be the same."""
    text = json.dumps(SCHEMAS, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def source_digest() -> Optional[str]:
    """Return the digest of the CUDA sources, None if not installed."""
    folder = _HERE / 'csrc'
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.[ch]*')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def library_path() -> Optional[Path]:
    """Return the compiled library, None for a pure Python install."""
    paths = (_HERE.parent / f'_C{suffix}' for suffix in EXTENSION_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def read_build(path: Path) -> Dict[str, str]:
    """Read what a library was built for, without loading it.

    Args:
        path: Shared library.

    Returns:
        ``schema, source, torch, cuda, archs``; empty for a library that is
        not ours.
    """
    found = _TAG.search(path.read_bytes())
    if found is None:
        return {}
    pairs = found.group(1).decode().split(';')
    build, key = {}, ''
    for pair in pairs:  # the list of architectures has semicolons, too
        if '=' in pair:
            key, _, build[key] = pair.partition('=')
        else:
            build[key] += f';{pair}'
    return build


def why_not(path: Optional[Path]) -> str:
    """Say why a library does not fit this machine, without loading it.

    Args:
        path: The library, None for a pure Python install.

    Returns:
        The reason, empty where it fits.
    """
    if path is None:
        return 'the CUDA operators are not built'
    if not torch.cuda.is_available():
        return 'PyTorch sees no usable GPU'
    old = [
        torch.cuda.get_device_name(i)
        for i in range(torch.cuda.device_count())
        if torch.cuda.get_device_capability(i) < _MIN_CAPABILITY
    ]
    if old:
        return f'{old} have a compute capability below 8.0'
    build = read_build(path)
    build['cuda'] = build.get('cuda', '').partition('.')[0]
    expected = {
        'schema': schema_digest(),
        'source': source_digest(),
        'torch': '.'.join(torch.__version__.split('.')[:2]),
        'cuda': (torch.version.cuda or '').partition('.')[0],
    }
    for key, value in expected.items():
        if value is not None and build.get(key) != value:
            return (
                f'{path.name} was built for {key} {build.get(key, "unknown")}'
                f', not {value}: build it again'
            )
    return ''


def load(path: Path) -> None:
    """Load a library and run each of its kinds of kernels once.

    Args:
        path: The library.

    Raises:
        OSError: If it cannot be loaded.
        RuntimeError: If its kernels do not run, for example because the
            driver is older than the build.
    """
    global _loaded
    torch.ops.load_library(path)
    _loaded = True
    operators = getattr(torch.ops, NAMESPACE)
    ones = torch.ones(8, 8, device='cuda')
    norm = operators.add_layer_norm(
        ones, None, None, ones[0], ones[0], 1e-6, torch.bfloat16
    )
    operators.tied_qkv(norm[1], ones, ones, ones[0], None, None)
    torch.cuda.synchronize()


def is_loaded() -> bool:
    """Return whether :func:`load` has loaded a library, working or not."""
    return _loaded
