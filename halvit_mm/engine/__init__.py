"""Training parts; importing this package fills the registries."""

from .agreement import AgreementHook
from .broken_numbers import (
    BROKEN_STATUS,
    BrokenNumbersError,
    BrokenNumbersHook,
)
from .checkpoint_hook import CheckpointHook, check_space
from .exact_resume import (
    EpochBasedTrainLoop,
    ResumableBatchSampler,
    SeededDataset,
    SeedHook,
    make_exact,
)
from .feature_collapse import FeatureCollapseHook
from .graphed import GraphedForward
from .layer_decay import LayerDecayOptimWrapperConstructor
from .log_processor import LogProcessor
from .optim_wrapper import BFloat16OptimWrapper
from .peak_to_final import PeakToFinalHook
from .pictures import PicturesHook
from .preemption import PREEMPTED_STATUS, StepCheckpointHook
from .processes import die_with_parent
from .resumed_schedule import ResumedScheduleHook
from .rigl_hook import RigLHook
from .runner import Runner
from .tensorboard import TensorboardVisBackend
from .watchdog import HUNG_STATUS, Watchdog, watched

__all__ = [
    'BROKEN_STATUS',
    'HUNG_STATUS',
    'PREEMPTED_STATUS',
    'AgreementHook',
    'BFloat16OptimWrapper',
    'BrokenNumbersError',
    'BrokenNumbersHook',
    'CheckpointHook',
    'EpochBasedTrainLoop',
    'FeatureCollapseHook',
    'GraphedForward',
    'LayerDecayOptimWrapperConstructor',
    'LogProcessor',
    'PeakToFinalHook',
    'PicturesHook',
    'ResumableBatchSampler',
    'ResumedScheduleHook',
    'RigLHook',
    'Runner',
    'SeedHook',
    'SeededDataset',
    'StepCheckpointHook',
    'TensorboardVisBackend',
    'Watchdog',
    'check_space',
    'die_with_parent',
    'make_exact',
    'watched',
]
