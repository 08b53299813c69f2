"""Pictures of results."""

from .benchmark import draw_benchmark
from .compression import draw_compression, draw_compression_study
from .curves import draw_curves
from .detections import draw_detections
from .ffn import draw_ffn
from .study import draw_study
from .zoo import draw_zoo

__all__ = [
    'draw_benchmark',
    'draw_compression',
    'draw_compression_study',
    'draw_curves',
    'draw_detections',
    'draw_ffn',
    'draw_study',
    'draw_zoo',
]
