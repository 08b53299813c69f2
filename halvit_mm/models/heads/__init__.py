"""Heads on top of mmdet's; configs of detectors import this package.

It is apart from :mod:`halvit_mm.models`, which does without mmdet.
"""

from .fcn_mask_head import FCNMaskHead

__all__ = ['FCNMaskHead']
