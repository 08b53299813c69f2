"""Models; importing this package fills the registry."""

from .backbones import HaLViT, PlainViT
from .layers import prepare, unprepare
from .necks import SimpleFPN
from .wrappers import CompressedBackbone

__all__ = [
    'CompressedBackbone',
    'HaLViT',
    'PlainViT',
    'SimpleFPN',
    'prepare',
    'unprepare',
]
