"""FiPS compression of any ``nn.Module``: prepare, calibrate, convert."""

from .calibration import calibrate
from .config import FiPSConfig
from .export import (
    CompressedFile,
    is_compressed_file,
    load_compressed,
    read_compressed,
    read_structures,
    save_compressed,
)
from .factorized_weight import SharedBase
from .fips import EXECUTIONS, Compression, convert, plan_compression, prepare
from .low_rank import tied_layers
from .masks import scopes_of
from .parametrization import factors
from .passes import Progress, UnitError
from .sparsifiers import METHODS, RigL, build_sparsifier
from .structure import Structure, attach_structure
from .targets import find_groups

__all__ = [
    'Compression',
    'CompressedFile',
    'EXECUTIONS',
    'FiPSConfig',
    'METHODS',
    'Progress',
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
    'prepare',
    'read_compressed',
    'read_structures',
    'save_compressed',
    'scopes_of',
    'tied_layers',
]
