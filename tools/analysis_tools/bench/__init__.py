"""Benchmarks: variants of a layer or a model, timed in turns."""

from .cases import DTYPES, MODES, BackboneCase
from .config_cases import CompressedCase, DetectorCase
from .layer_case import LayerCase, grid
from .report import print_result, save_result, write_page
from .runner import run_benchmark
from .variants import VARIANTS

#: What can be timed, by its name on the command line.
LEVELS = {
    case.level: case
    for case in (LayerCase, BackboneCase, DetectorCase, CompressedCase)
}

__all__ = [
    'DTYPES',
    'LEVELS',
    'MODES',
    'VARIANTS',
    'grid',
    'print_result',
    'run_benchmark',
    'save_result',
    'write_page',
]
