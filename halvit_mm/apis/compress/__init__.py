"""FiPS from a config and a checkpoint to a smaller file and a report."""

from .data import calibration_batches
from .report import print_plan, write_report
from .run import (
    CompressionResult,
    compress,
    compressed_config,
    load_original,
)
from .settings import FiPSSettings

__all__ = [
    'CompressionResult',
    'FiPSSettings',
    'calibration_batches',
    'compress',
    'compressed_config',
    'load_original',
    'print_plan',
    'write_report',
]
