"""Data sets and transforms; importing this package fills the registries."""

from .coco import CocoDataset
from .in_memory import ImagesInMemory
from .inaturalist import INaturalist
from .loading import LoadImageFromFile

__all__ = ['CocoDataset', 'INaturalist', 'ImagesInMemory', 'LoadImageFromFile']
