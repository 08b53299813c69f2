"""Backbones; importing this package registers them."""

from .grouped_vit import GroupedViT
from .halvit import HaLViT
from .plain_vit import PlainViT
from .shared_vit import SharedHaLViT
from .tied_resnet import TiedResNet

__all__ = [
    'GroupedViT',
    'HaLViT',
    'PlainViT',
    'SharedHaLViT',
    'TiedResNet',
]
