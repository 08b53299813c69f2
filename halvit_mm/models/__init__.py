"""Models; importing this package fills the registry."""

from .backbones import HaLViT, PlainViT
from .necks import SimpleFPN

__all__ = ['HaLViT', 'PlainViT', 'SimpleFPN']
