"""Modules around a backbone that a config can name."""

from .compressed_backbone import CompressedBackbone

__all__ = ['CompressedBackbone']
