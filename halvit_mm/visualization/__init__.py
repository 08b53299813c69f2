"""Pictures of results."""

from .compression import draw_compression
from .curves import draw_curves
from .detections import draw_detections
from .predictions import Painter, load_supervision
from .samples import draw_sample

__all__ = [
    'Painter',
    'draw_compression',
    'draw_curves',
    'draw_detections',
    'draw_sample',
    'load_supervision',
]
