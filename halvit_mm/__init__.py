"""HaLViT: vision transformers that need half of their weights.

Importing the package makes the OpenMMLab hosts usable without a compiler
(see :mod:`halvit_mm.compat`) and adds the scope ``halvit_mm`` to mmengine's
registries. Import it before ``mmdet.models``; configs do so through
``custom_imports``.
"""

from . import compat

compat.install()

from . import registry  # noqa: E402, F401
from .version import __version__  # noqa: E402

__all__ = ['__version__']
