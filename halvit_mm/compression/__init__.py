"""FiPS compression of any ``nn.Module``: prepare, calibrate, convert."""

from .activations import ActivationStore, capture
from .calibration import Calibration, Progress, UnitError, calibrate
from .export import (
    CompressedFile,
    is_compressed_file,
    load_compressed,
    read_compressed,
    read_structures,
    save_compressed,
)
from .fips import (
    EXECUTIONS,
    Decomposition,
    Structure,
    attach_structure,
    convert,
    passes_of,
    prepare,
    structure_of,
)
from .low_rank import tied_layers
from .parametrization import SharedBase, factors, materialize
from .sparsifiers import METHODS, SCOPES, RigL, build_sparsifier, scopes_of
from .targets import Group, find_groups

__all__ = [
    'ActivationStore',
    'Calibration',
    'CompressedFile',
    'Decomposition',
    'EXECUTIONS',
    'Group',
    'METHODS',
    'Progress',
    'RigL',
    'SCOPES',
    'SharedBase',
    'Structure',
    'UnitError',
    'attach_structure',
    'build_sparsifier',
    'calibrate',
    'capture',
    'convert',
    'factors',
    'find_groups',
    'is_compressed_file',
    'load_compressed',
    'materialize',
    'passes_of',
    'prepare',
    'read_compressed',
    'read_structures',
    'save_compressed',
    'scopes_of',
    'structure_of',
    'tied_layers',
]
