"""Models as files that neither PyTorch nor this package is needed for."""

from .exporting import PARTS, export

__all__ = ['PARTS', 'export']
