"""Arguments that several tools take."""

import argparse
import os

from mmengine.config import DictAction

from .config import AMP_CHOICES


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` to a parser."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override, key=value; data_root=... moves all data, '
        'classes=auto takes the classes from the annotations',
    )


def add_amp_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--amp`` to a parser."""
    parser.add_argument(
        '--amp', choices=AMP_CHOICES, help='mixed precision (fp16 needs a GPU)'
    )


def add_shape_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--shape`` to a parser; ``default`` is its default in words."""
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help=f'image size in pixels; by default {default}',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing have in common."""
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
