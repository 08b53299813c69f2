"""Evaluate a checkpoint of a detector or a classifier."""

import argparse
import os

from mmengine.config import DictAction

from halvit_mm.apis import load_config, test
from halvit_mm.apis.config import AMP_CHOICES


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights of the whole model')
    parser.add_argument(
        '--work-dir', help='output folder; work_dirs/<config> by default'
    )
    parser.add_argument(
        '--amp', choices=AMP_CHOICES, help='mixed precision (fp16 needs a GPU)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override, key=value; data_root=... moves all data, '
        'classes=auto takes the classes from the annotations',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main():
    args = parse_args()
    cfg = load_config(
        args.config,
        args.cfg_options,
        work_dir=args.work_dir,
        launcher=args.launcher,
    )
    test(cfg, args.checkpoint, args.amp)


if __name__ == '__main__':
    main()
