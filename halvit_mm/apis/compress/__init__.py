"""From a config and a checkpoint to a smaller file and a report."""

from .backbone import CompressionResult, compress
from .checkpoint import compress_checkpoint, compressed_config, load_original
from .data import calibration_batches
from .dense import dense_model, save_dense
from .estimate import UnitPlan, estimate
from .live import LiveErrors
from .report import print_plan, write_report
from .settings import WAYS, read_settings
from .tying import tie

__all__ = [
    'WAYS',
    'CompressionResult',
    'LiveErrors',
    'UnitPlan',
    'calibration_batches',
    'compress',
    'compress_checkpoint',
    'compressed_config',
    'dense_model',
    'estimate',
    'load_original',
    'print_plan',
    'read_settings',
    'save_dense',
    'tie',
    'write_report',
]
