"""FiPS from a config and a checkpoint to a smaller file and a report."""

from .data import calibration_batches
from .report import print_plan, write_report
from .run import (
    CompressionResult,
    UnitPlan,
    compress,
    compressed_config,
    estimate,
    load_original,
)
from .settings import FiPSSettings

__all__ = [
    'CompressionResult',
    'FiPSSettings',
    'UnitPlan',
    'calibration_batches',
    'compress',
    'compressed_config',
    'estimate',
    'load_original',
    'print_plan',
    'write_report',
]
