"""Benchmarks: variants of a layer or a model, timed in turns."""

# Before mmpretrain, which imports mmdet: it supplies mmcv's operators.
import halvit_mm  # noqa: F401

from .cases import BackboneCase
from .config_cases import CompressedCase, DetectorCase
from .layer_case import LayerCase

#: What can be timed, by its name on the command line.
LEVELS = {
    case.level: case
    for case in (LayerCase, BackboneCase, DetectorCase, CompressedCase)
}
