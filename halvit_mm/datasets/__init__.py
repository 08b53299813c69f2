"""Data sets and transforms; importing this package fills the registries."""

from .coco import CocoDataset
from .loading import LoadImageFromFile

__all__ = ['CocoDataset', 'LoadImageFromFile']
