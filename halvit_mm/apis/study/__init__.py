"""Studies: configs times seeds, run and compared."""

from .pending import device_name, run_in_process, run_pending, share_cores
from .plan import Run, Study, check_keys, digest_of, slug
from .report import mean_and_spread, print_study, write_study
from .run import run_study

__all__ = [
    'Run',
    'Study',
    'check_keys',
    'device_name',
    'digest_of',
    'mean_and_spread',
    'print_study',
    'run_in_process',
    'run_pending',
    'run_study',
    'share_cores',
    'slug',
    'write_study',
]
