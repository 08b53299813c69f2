"""Arguments that several tools take."""

import argparse
import os

from mmengine.config import DictAction

from .config import AMP_CHOICES

__all__ = [
    'add_amp_argument',
    'add_config_options',
    'add_run_arguments',
    'add_shape_argument',
    'add_study_arguments',
]


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Args: parser: Gets ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override, key=value; data_root=... moves all data, '
        'classes=auto takes the classes from the annotations',
    )


def add_amp_argument(parser: argparse.ArgumentParser) -> None:
    """Args: parser: Gets ``--amp``."""
    parser.add_argument(
        '--amp', choices=AMP_CHOICES, help='mixed precision (fp16 needs a GPU)'
    )


def add_shape_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Args: parser: Gets ``--shape``; default: What it is without."""
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help=f'image size in pixels; by default {default}',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Args: parser: Gets what training and testing have in common."""
    parser.add_argument(
        '--work-dir', help='output folder; work_dirs/<config> by default'
    )
    add_amp_argument(parser)
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # mmengine reads the environment, which torchrun sets
    os.environ.setdefault('LOCAL_RANK', '0')


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Args: parser: Gets what tools that run studies have in common."""
    parser.add_argument('study', help='YAML file')
    parser.add_argument(
        '--out', help='folder of the results, default docs/studies/NAME'
    )
    parser.add_argument(
        '--work-dir',
        help='folder of checkpoints and logs, default work_dirs/studies/NAME',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='runs at a time, which share the cores, default 1',
    )
    parser.add_argument(
        '--variants', nargs='+', help='run these only, default all'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='options of every run, over those of the file',
    )
