"""Training parts; importing this package fills the registries."""

from .agreement import AgreementHook
from .checkpoint_hook import CheckpointHook, check_space
from .graphed import GraphedForward
from .optim_wrapper import BFloat16OptimWrapper
from .peak_to_final import PeakToFinalHook
from .resumed_schedule import ResumedScheduleHook
from .rigl_hook import RigLHook

__all__ = [
    'AgreementHook',
    'BFloat16OptimWrapper',
    'CheckpointHook',
    'GraphedForward',
    'PeakToFinalHook',
    'ResumedScheduleHook',
    'RigLHook',
    'check_space',
]
