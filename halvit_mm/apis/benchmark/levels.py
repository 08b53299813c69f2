"""What can be timed, by its name on the command line."""

from .cases import BackboneCase, DetectorCase, LayerCase
from .compressed import CompressedCase

__all__ = ['LEVELS']

LEVELS = {
    case.level: case
    for case in (LayerCase, BackboneCase, DetectorCase, CompressedCase)
}
