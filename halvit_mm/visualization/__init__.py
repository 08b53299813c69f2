"""Pictures of results."""

from .curves import draw_curves
from .detections import draw_detections

__all__ = ['draw_curves', 'draw_detections']
