"""Train a detector or a classifier."""

import argparse
import sys

from halvit_mm.apis import add_tensorboard, train
from halvit_mm.apis.cli import (
    add_run_arguments,
    errors_in_short,
    read_config,
)
from halvit_mm.engine import (
    BROKEN_STATUS,
    BrokenNumbersError,
    die_with_parent,
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from a checkpoint, the newest whole one if none is '
        'named; auto-or-new starts anew where there is none',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the images a step',
    )
    parser.add_argument(
        '--log',
        choices=['tensorboard'],
        help='where curves and pictures go as well, to <work_dir>/tensorboard',
    )
    add_run_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    if args.launcher == 'pytorch':
        die_with_parent()  # the launcher, which may be killed
    cfg = read_config(
        args.config,
        args.cfg_options,
        work_dir=args.work_dir,
        amp=args.amp,
        resume=args.resume,
        launcher=args.launcher,
        auto_scale_lr=args.auto_scale_lr,
    )
    try:
        with errors_in_short():
            if args.log:
                add_tensorboard(cfg)
            train(cfg)
    except BrokenNumbersError as error:
        print(error, file=sys.stderr)
        sys.exit(BROKEN_STATUS)


if __name__ == '__main__':
    main()
