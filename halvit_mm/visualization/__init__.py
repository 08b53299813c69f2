"""Pictures of results."""

from .benchmark import draw_benchmark
from .curves import draw_curves
from .detections import draw_detections

__all__ = ['draw_benchmark', 'draw_curves', 'draw_detections']
