"""Data sets and transforms; importing this package fills the registries."""

from .coco import CocoDataset
from .coco_check import (
    DataError,
    check_images,
    read_coco,
    read_results,
    require_below,
)
from .coco_metric import CocoMetric
from .in_memory import ImagesInMemory
from .inaturalist import INaturalist
from .loading import LoadImageFromFile

__all__ = [
    'CocoDataset',
    'CocoMetric',
    'DataError',
    'INaturalist',
    'ImagesInMemory',
    'LoadImageFromFile',
    'check_images',
    'read_coco',
    'read_results',
    'require_below',
]
