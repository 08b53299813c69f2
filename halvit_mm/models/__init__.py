"""Models; importing this package fills the registry."""

from .. import registry  # noqa: F401  first: it says which host is missing
from .backbones import (
    GroupedViT,
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
    'GroupedViT',
    'HaLViT',
    'PlainViT',
    'SharedHaLViT',
    'SimpleFPN',
    'TiedResNet',
    'pack_weights',
    'unpack_weights',
]
