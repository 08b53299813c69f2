"""Studies: variants and seeds of a config, run and compared."""

from .main import main
from .plan import ROOT, Run, Study
from .report import study_table, write_study
from .runner import run_study

__all__ = [
    'ROOT',
    'Run',
    'Study',
    'main',
    'run_study',
    'study_table',
    'write_study',
]
