"""Models; importing this package fills the registry."""

from .backbones import (
    GroupedMLPViT,
    HaLViT,
    PlainViT,
    SharedHaLViT,
    TiedResNet,
)
from .layers import pack_weights, unpack_weights
from .necks import SimpleFPN
from .wrappers import CompressedBackbone

__all__ = [
    'CompressedBackbone',
    'GroupedMLPViT',
    'HaLViT',
    'PlainViT',
    'SharedHaLViT',
    'SimpleFPN',
    'TiedResNet',
    'pack_weights',
    'unpack_weights',
]
