"""Backbones."""

from .halvit import HaLViT
from .plain_vit import PlainViT

__all__ = ['HaLViT', 'PlainViT']
