"""COCO annotations, read once, mended in memory, and refused when wrong.

Data sets, evaluators and reports read annotations here, so that training and
evaluation see the same objects. What is mended is said with its count and
first ids; what cannot be mended is an error that names the cure. Neither torch
nor any host is imported.

To add a check, write a function that takes a :class:`CocoFile` and name it in
``_CHECKS`` of ``reading.py``.
"""

from .file import CocoFile
from .findings import DataError
from .fixing import fix_images, write_coco
from .images import check_images
from .missing import require_below
from .reading import read_coco
from .results import read_results

__all__ = [
    'CocoFile',
    'DataError',
    'check_images',
    'fix_images',
    'read_coco',
    'read_results',
    'require_below',
    'write_coco',
]
