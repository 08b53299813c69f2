"""The choice of the operators' implementation.

``HALVIT_MM_OPS`` chooses: ``auto`` (the compiled library where it fits),
``cuda`` (the library or an error), ``fallback`` (never the library) or
``plain`` (no operators at all: the definitions of :mod:`.reference`).
``HALVIT_MM_OPS_IN_COMPILE=1`` keeps the operators inside ``torch.compile``,
which otherwise sees the definitions and fuses them itself.
``HALVIT_MM_OPS_IMPL`` forces one of the two implementations of the FFN with
the tanh form of GELU (0, or 1 for GELU inside the product); by default a
timing decides.
"""

import hashlib
import logging
import os
import re
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Dict, Iterator, Optional

import torch

CHOICES = ('auto', 'cuda', 'fallback', 'plain')
_HERE = Path(__file__).parent
_TAG = re.compile(rb'halvit_mm-build\{([^}]*)\}')
_MIN_CAPABILITY = (8, 0)


def _from_environment() -> str:
    choice = os.environ.get('HALVIT_MM_OPS', 'auto')
    if choice not in CHOICES:
        raise ValueError(
            f'HALVIT_MM_OPS={choice!r}: choose one of {list(CHOICES)}'
        )
    return choice


def _impl_from_environment() -> Optional[int]:
    choices = {'': None, '0': 0, '1': 1}
    choice = os.environ.get('HALVIT_MM_OPS_IMPL', '')
    if choice not in choices:
        raise ValueError(f'HALVIT_MM_OPS_IMPL={choice!r}: choose 0 or 1')
    return choices[choice]


# Module-level names: torch.compile guards on these, and compiles again when
# `use` changes them.
_choice = _from_environment()
_in_compile = os.environ.get('HALVIT_MM_OPS_IN_COMPILE', '0') == '1'
_loaded = False
_impl = _impl_from_environment()


def schema_digest() -> str:
    """Return the digest of :mod:`.schemas`; a library's must be the same."""
    source = (_HERE / 'schemas.py').read_bytes()
    return hashlib.sha256(source).hexdigest()[:12]


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
    """Load the library at ``path``, or return why it is not used."""
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
    return _load(path)


def _load(path: Path) -> str:
    global _loaded
    try:
        torch.ops.load_library(path)
        _loaded = True
        # A driver that is too old for the build fails at the first launch,
        # a cuBLAS that does not fit at the first product.
        ones = torch.ones(8, 8, device='cuda')
        norm = torch.ops.halvit.add_layer_norm(
            ones, None, None, ones[0], ones[0], 1e-6, torch.bfloat16
        )
        torch.ops.halvit.tied_qkv(norm[1], ones, ones, ones[0], None, None)
        torch.cuda.synchronize()
    except (OSError, RuntimeError) as error:
        return f'{path.name} does not work: {str(error).splitlines()[0]}'
    return ''


@lru_cache(maxsize=1)
def _library_problem() -> str:
    """Load the library, once, or return why it is not used."""
    problem = why_not(library_path())
    if problem and torch.cuda.is_available():
        logging.getLogger('halvit_mm').warning(
            'The operators run on their fallback: %s.', problem
        )
    return problem


def backend() -> str:
    """Return the implementation that runs on this machine.

    Returns:
        ``'cuda'``, ``'fallback'`` or ``'plain'``.

    Raises:
        RuntimeError: If ``HALVIT_MM_OPS=cuda`` and the library cannot be
            used.
    """
    if _choice in ('fallback', 'plain'):
        return _choice
    problem = _library_problem()
    if problem and _choice == 'cuda':
        raise RuntimeError(f'HALVIT_MM_OPS=cuda, but {problem}')
    return 'fallback' if problem else 'cuda'


def backend_reason() -> str:
    """Return the reason for the answer of :func:`backend`, as a clause."""
    if _choice in ('fallback', 'plain'):
        return f'HALVIT_MM_OPS={_choice}'
    return _library_problem() or f'{library_path().name} fits'


def is_plain() -> bool:
    """Return whether the definitions are called instead of operators."""
    return _choice == 'plain'


def is_broken() -> bool:
    """Return whether a library was loaded whose kernels do not run."""
    return _loaded and bool(_library_problem())


def forced_impl() -> Optional[int]:
    """Return the FFN's implementation if the user chose one, or None."""
    return _impl


def in_compile() -> bool:
    """Return whether ``torch.compile`` sees the operators."""
    return _in_compile


@contextmanager
def use(
    choice: Optional[str] = None,
    in_compile: Optional[bool] = None,
    impl: Optional[int] = None,
) -> Iterator[None]:
    """Choose the implementation within a context.

    ``'fallback'`` does not unload a library that is already loaded.

    Args:
        choice: Value of ``HALVIT_MM_OPS``, or None for no change.
        in_compile: Whether ``torch.compile`` sees the operators.
        impl: Implementation of the FFN with the tanh form of GELU.

    Raises:
        ValueError: For an unknown choice.
    """
    if choice is not None and choice not in CHOICES:
        raise ValueError(f'{choice!r}: choose one of {list(CHOICES)}')
    global _choice, _in_compile, _impl
    before = _choice, _in_compile, _impl
    _impl = _impl if impl is None else impl
    _choice = choice or _choice
    _in_compile = _in_compile if in_compile is None else in_compile
    try:
        yield
    finally:
        _choice, _in_compile, _impl = before
