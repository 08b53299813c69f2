"""Train a detector or a classifier."""

import argparse
import os

from mmengine.config import DictAction

from halvit_mm.apis import load_config, train
from halvit_mm.apis.config import AMP_CHOICES


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='output folder; work_dirs/<config> by default'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from a checkpoint, the latest one if none is named',
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
    # torchrun passes it; mmengine reads the environment
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
        amp=args.amp,
        resume=args.resume,
        launcher=args.launcher,
    )
    train(cfg)


if __name__ == '__main__':
    main()
