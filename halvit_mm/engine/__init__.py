"""Training parts; importing this package fills the registries."""

from .agreement import AgreementHook
from .broken_numbers import (
    BROKEN_STATUS,
    BrokenNumbersError,
    BrokenNumbersHook,
)
from .checkpoint_hook import CheckpointHook, check_space
from .graphed import GraphedForward
from .optim_wrapper import BFloat16OptimWrapper
from .peak_to_final import PeakToFinalHook
from .resumed_schedule import ResumedScheduleHook
from .rigl_hook import RigLHook

__all__ = [
    'BROKEN_STATUS',
    'AgreementHook',
    'BFloat16OptimWrapper',
    'BrokenNumbersError',
    'BrokenNumbersHook',
    'CheckpointHook',
    'GraphedForward',
    'PeakToFinalHook',
    'ResumedScheduleHook',
    'RigLHook',
    'check_space',
]
