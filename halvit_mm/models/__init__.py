"""Models; importing this package fills the registry."""

from .backbones import HaLViT, PlainViT
from .layers import prepare, unprepare
from .necks import SimpleFPN

__all__ = ['HaLViT', 'PlainViT', 'SimpleFPN', 'prepare', 'unprepare']
