"""Where ``mmcv._ext`` comes from: compiled, or backed by torchvision.

For most versions of PyTorch there is no wheel of mmcv, and compiling it takes
a quarter of an hour, while Mask R-CNN needs three of its hundred operators. A
finder in ``sys.meta_path`` supplies a replacement when, and only when, the
real extension cannot be imported.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import sys
import types

from .host import unsupported_message

NAME = 'mmcv._ext'
#: ``auto`` (default), ``native`` or ``torchvision``.
ENV_VAR = 'HALVIT_MM_MMCV_OPS'
_CHOICES = ('auto', 'native', 'torchvision')


def _native_spec(path):
    """Find the compiled extension; None if it is missing or does not load."""
    spec = importlib.machinery.PathFinder.find_spec(NAME, path)
    if spec is None:
        return None
    try:
        importlib.util.module_from_spec(spec)
    except ImportError as error:
        logging.getLogger('halvit_mm').warning(
            'the compiled %s does not load (%s); torchvision replaces it',
            NAME,
            error,
        )
        return None
    return spec


class _ExtensionModule(types.ModuleType):
    """``mmcv._ext`` as a module: three operators, an error for the others."""

    def __getattr__(self, name: str):
        if name.startswith('__'):  # importlib and inspect probe these
            raise AttributeError(name)
        # Bound on demand: mmcv looks names up at import, and that must not
        # import torchvision yet.
        from . import torchvision_ops

        def unsupported(*args, **kwargs):
            raise NotImplementedError(unsupported_message(name))

        is_there = name in torchvision_ops.__all__
        return getattr(torchvision_ops, name) if is_there else unsupported


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        if fullname != NAME:
            return None
        choice = os.environ.get(ENV_VAR, 'auto')
        if choice not in _CHOICES:
            raise ValueError(f'{ENV_VAR}={choice!r}: choose one of {_CHOICES}')
        if choice == 'native':
            return None  # the next finder, and its error if there is none
        spec = _native_spec(path) if choice == 'auto' else None
        return spec or importlib.machinery.ModuleSpec(NAME, self)

    def create_module(self, spec):
        return _ExtensionModule(spec.name)

    def exec_module(self, module) -> None:
        pass


def install_mmcv_ext() -> None:
    """Put the finder before all others, unless it is there already."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def ops_backend() -> str:
    """Tell which implementation of mmcv's operators this process uses.

    Returns:
        ``'native'``, ``'torchvision'`` or ``'none'`` (mmcv is missing, or
        ``native`` is required where nothing is compiled).
    """
    try:
        module = importlib.import_module(NAME)
    except ImportError:
        return 'none'
    is_ours = isinstance(module, _ExtensionModule)
    return 'torchvision' if is_ours else 'native'
