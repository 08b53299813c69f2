"""Backbones; importing this package registers them."""

from .halvit import HaLViT
from .plain_vit import PlainViT
from .shared_vit import GroupedMLPViT, SharedHaLViT
from .tied_resnet import TiedResNet

__all__ = [
    'GroupedMLPViT',
    'HaLViT',
    'PlainViT',
    'SharedHaLViT',
    'TiedResNet',
]
