"""Benchmarks: variants of a layer or a model, timed in turns."""

from .cases import (
    DTYPES,
    MODES,
    BackboneCase,
    Case,
    DetectorCase,
    LayerCase,
)
from .compressed import CompressedCase
from .levels import LEVELS
from .presets import grid
from .report import report
from .result import BenchmarkResult, VariantResult
from .run import run_benchmark
from .table import append_markdown, print_result
from .variants import VARIANTS

__all__ = [
    'DTYPES',
    'LEVELS',
    'MODES',
    'VARIANTS',
    'BackboneCase',
    'BenchmarkResult',
    'Case',
    'CompressedCase',
    'DetectorCase',
    'LayerCase',
    'VariantResult',
    'append_markdown',
    'grid',
    'print_result',
    'report',
    'run_benchmark',
]
