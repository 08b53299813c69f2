"""Training parts; importing this package fills the registries."""

from .agreement import AgreementHook
from .graphed import GraphedForward
from .optim_wrapper import BFloat16OptimWrapper
from .peak_to_final import PeakToFinalHook
from .rigl_hook import RigLHook

__all__ = [
    'AgreementHook',
    'BFloat16OptimWrapper',
    'GraphedForward',
    'PeakToFinalHook',
    'RigLHook',
]
