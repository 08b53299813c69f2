"""Smaller models by FiPS or pruning: prepare, calibrate, convert."""

from .calibration import Compressing, calibrate
from .config import CalibrationConfig, FiPSConfig, PruneConfig
from .execution import EXECUTIONS, convert
from .export import (
    CompressedFile,
    is_compressed_file,
    load_compressed,
    read_compressed,
    read_structures,
    save_compressed,
)
from .factorized_weight import SharedBase
from .fips import Compression, plan_compression, prepare
from .low_rank import tied_layers
from .masks import scopes_of
from .parametrization import factors
from .passes import Progress, UnitError
from .pruning import Pruning, plan_pruning
from .sparsifiers import METHODS, RigL, build_sparsifier
from .structure import Structure, attach_structure, sparsity_of
from .targets import find_groups

__all__ = [
    'CalibrationConfig',
    'Compressing',
    'Compression',
    'CompressedFile',
    'EXECUTIONS',
    'FiPSConfig',
    'METHODS',
    'Progress',
    'PruneConfig',
    'Pruning',
    'RigL',
    'SharedBase',
    'Structure',
    'UnitError',
    'attach_structure',
    'build_sparsifier',
    'calibrate',
    'convert',
    'factors',
    'find_groups',
    'is_compressed_file',
    'load_compressed',
    'plan_compression',
    'plan_pruning',
    'prepare',
    'read_compressed',
    'read_structures',
    'save_compressed',
    'scopes_of',
    'sparsity_of',
    'tied_layers',
]
