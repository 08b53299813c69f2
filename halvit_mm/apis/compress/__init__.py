"""FiPS from a config and a checkpoint to a smaller file and a report."""

from .checkpoint import compress_checkpoint
from .data import calibration_batches
from .dense import dense_model, save_dense
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
    'compress_checkpoint',
    'compressed_config',
    'dense_model',
    'estimate',
    'load_original',
    'print_plan',
    'save_dense',
    'write_report',
]
