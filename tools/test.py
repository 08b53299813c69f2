"""Evaluate a checkpoint of a detector or a classifier."""

import argparse
import sys

from halvit_mm.apis import test
from halvit_mm.apis.cli import add_run_arguments, read_config
from halvit_mm.compression import EXECUTIONS
from halvit_mm.datasets import DataError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights of the whole model')
    parser.add_argument(
        '--execution',
        choices=EXECUTIONS,
        help='of a compressed backbone; by default its products are kept',
    )
    add_run_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = read_config(
        args.config,
        args.cfg_options,
        work_dir=args.work_dir,
        launcher=args.launcher,
        checkpoint=args.checkpoint,
    )
    try:
        test(cfg, args.checkpoint, args.amp, args.execution)
    except DataError as error:
        sys.exit(f'{error}')


if __name__ == '__main__':
    main()
