"""The model zoo: two tables, filled by the configs and by measurements."""

from .models import load_zoo, measure_zoo
from .picture import draw_zoo
from .report import write_metafile, write_page, zoo_points

__all__ = [
    'draw_zoo',
    'load_zoo',
    'measure_zoo',
    'write_metafile',
    'write_page',
    'zoo_points',
]
