"""HaLViT: vision transformers that need half of their weights.

Importing the package makes the OpenMMLab hosts usable without a compiler
(see :mod:`halvit_mm.compat`), adds the scope ``halvit_mm`` to mmengine's
registries and enables mmengine to load safetensors. Import it before
``mmdet.models``; configs do so through ``custom_imports``.
"""

from importlib.util import find_spec

from . import compat
from .version import __version__

if find_spec('mmengine') is not None:  # without it only the doctor works
    compat.install()
    from . import registry, weights  # noqa: F401

__all__ = ['__version__']
